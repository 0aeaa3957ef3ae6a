// What C++ adds: namespaces, base classes, static members, virtual functions, containers, locks.
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>

namespace exchange {
enum class side : std::uint8_t { buy = 1, sell = 200 };

struct base {
    std::uint32_t id = 7;
};

struct order : base {
    static int made;
    double price = 2.5;
    side way = side::sell;
    std::array<short, 3> levels{{1, 2, 3}};
    std::atomic<int> hits{4};
    order() = default;
};
int order::made = 9;

struct guarded : order {
    std::mutex lock;
};

struct shape {
    int corners = 3;
    virtual int area() { return corners; }
};

struct named {
    int number = 1;
    std::string name = "n";
};

order book;
guarded safe;
shape figure;
named entry;
namespace {
int hidden = 11;
}
}  // namespace exchange

int main() {
    std::puts("ready");
    std::fflush(stdout);
    exchange::hidden += exchange::figure.area();
    return std::getchar() == EOF ? 0 : exchange::hidden;
}

/* Has a static variable whose name second.c uses too, and one of its own. */
#include <stdint.h>

static struct { uint32_t first; } entries = {1};
static int own_to_first = 7;

uint32_t sum_first(void) { return entries.first++ + own_to_first++; }

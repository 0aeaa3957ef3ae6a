"""Three nodes under the real cluster: their daemons decide; the demo does harm, asks as an operator, and watches."""

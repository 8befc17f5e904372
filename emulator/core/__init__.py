"""Pure decisions. Facts in, orders out: no clock, no I/O, no asyncio, no chance."""

"""The live classroom: who comes in, by which address, and what the phones of a class do."""

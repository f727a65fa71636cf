"""Which matrices are analog, and how they are held: what each does to the loss, and the cheapest way to a bar."""

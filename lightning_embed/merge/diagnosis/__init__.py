"""How sources lie: angles, norms, conflicts of signs, the loss between them."""

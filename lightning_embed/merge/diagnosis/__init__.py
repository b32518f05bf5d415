"""Geometry of the sources (norms, angles, sign conflicts), and the loss between them."""

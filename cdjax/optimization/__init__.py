"""Style transfer by optimisation of the image itself (Gatys et al. 2016)."""

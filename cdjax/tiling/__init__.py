"""Style transfer beyond memory: windows of an image, on every device and host."""

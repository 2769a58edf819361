"""Images in and out of files, with Pillow or libvips, and Deep Zoom pyramids."""

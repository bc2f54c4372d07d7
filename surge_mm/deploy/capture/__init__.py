"""Networks whose operations are captured on an image of one size, and replayed without the modules."""

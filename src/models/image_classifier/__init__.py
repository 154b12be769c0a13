"""image-classifier: recognizes handwritten digits in images of MNIST."""

"""What is packed into every bento. It imports nothing of the training stack and no other room."""

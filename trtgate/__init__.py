"""trtgate: is a TensorRT model still fast and still right?"""

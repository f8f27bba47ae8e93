"""Published architectures, rebuilt from their papers under the names that their published tensors have.

They are made to hold published weights; what the numbers of a file mean is said by `interchange/`.
"""

<<<<<<< HEAD
"""Published architectures, rebuilt from their papers under the names that their published tensors have.

    ncsn.py             NCSN (2019) and NCSNv2 (2020): dilated RefineNets
    score_sde.py        DDPM, DDPM++ and NCSN++ (2021): U-Nets as one list of modules
    smalldiffusion.py   a network of linear layers for vectors

They are made to hold published weights; what the numbers of a file mean is said by `interchange/published.py`.
"""

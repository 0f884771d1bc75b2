"""Who speaks to the kernel.

| module | what is decided there |
|---|---|
| ``interface`` | registers, their offsets and ports |
| ``handoff`` | where an overlay's metadata say that registers and memories are |
| ``capability``, ``status``, ``regions`` | what a build is, what it refuses, what it touches |
| ``driver`` | registers written, started, waited for |
| ``host`` | the same in this process, without a device |
| ``sharing`` | which of several kernels a thread takes |
| ``contract`` | what every training holds to: arguments, draws, outputs |
| ``run``, ``segments`` | a training run as calls of the kernel, in pieces where memory is small |
| ``held`` | samples that stay on a device from one training to the next |
| ``loaded`` | whether the overlay is still there |
| ``buffers``, ``remote`` | device memory; boards in the network |
| ``refine``, ``refine_softmax`` | runs that are refined; those of all classes together |
| ``each`` | things that do not wait for each other, on threads |
| ``builds``, ``machine`` | the compiled kernel and engine; what they run on |
| ``power`` | energy of a training, from a board's sensors |
| ``needs_pynq`` | pynq, or how to install it |
"""

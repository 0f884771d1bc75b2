"""What is trained, counted or modelled and hardly depends on the machine: ``make study-levels``."""

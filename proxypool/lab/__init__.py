"""A whole pool on one machine, from network namespaces and the real programs.

Nothing here is imported by the daemons, and nothing in the daemons knows of the lab.

    topology    what a lab consists of: machines, addresses, pool content. Pure
    plans       its subnets, pairs and instances. Pure
    configs     the text of each machine's configuration files. Pure
    network     the `ip -batch` text that joins machines. Pure
    namespaces  start, enter and leave a machine's namespaces
    processes   find and end the processes of a lab by their environment
    services    the programs a machine runs, and how to start them
    building    make machines and join them, for up and power-on alike
    state       the lab's directory, lock and remembered topology
    machine     one machine: run a command, start a service, read a log
    faults      power-off, cut cable, kill, pause: and back
    agent       talks to the API of a host's agent
    traffic     does traffic flow?
    lab         up, attach, wait until ready, down
    preflight   can this computer run a lab? One clear sentence if not
    inside/     programs that run inside machines, standard library only: the server, the instruments
    prober      starts instruments in machines and reads their results
    report      what `lab status` and `lab logs` show
    application what an application in an instance sees
    drawing     the path of a packet, for people
    demo        the tour for newcomers
    guest/      the same lab inside a user-mode-linux kernel
"""

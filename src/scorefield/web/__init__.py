"""The page: a face of `app` in the browser, on this machine.

A server that imports no torch answers at once; processes beside it do the work, and their events reach the page as they come.

guard      who may ask: hosts, origins, passwords, sizes of bodies, and the headers of every answer
places     names of the page -> paths: runs, uploads and data under the runs' folder, nothing else
limits     how much a page may ask for
forms      what can be asked of each verb, from the signatures and specs that the command has
worker     a process that does the work
jobs       what is waiting, running and done
hub        pages that are open, and the events that wait for them
api        addresses
serve      the process
"""

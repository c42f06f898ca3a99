"""The control protocol: which requests there are, what they may say, and which right each of them needs.

A request is a SEND to `/control/<verb>` with a JSON object; man/forkbroker-control.7 describes it for people. This
table is read by all sides: the session checks a request with it before anything of it reaches the parent process, the
parent process checks it again, as it believes no child, and stomp-brokerctl makes of it its completion.
"""

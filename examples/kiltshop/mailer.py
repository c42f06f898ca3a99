"""The mailer: a worker that sends mails. Start as many of it as there are mails.

A mail that the mail server does not take now goes back to the queue, and the broker gives it out again after a while:
broker.toml says after how long, and how often. Then it is a dead letter, with the reason.
"""

import json
import smtplib
from email.message import EmailMessage
from typing import Any

from link import Link
from places import SMTP
from service import run


def begin(link: Link) -> None:
    link.subscribe("/queue/mails")


def handle(link: Link, frame: Any) -> None:
    job = json.loads(frame.body)
    contact = link.ask("/queue/contacts.get", id=job["to"])
    if "error" in contact:
        link.put_back(frame, contact["error"], requeue=False)
        return
    mail = EmailMessage()
    # if this program is killed after the mail has gone and before the ACK, it goes again: as the same mail
    mail["Message-ID"] = f"<{job['id']}@kiltshop.example>"
    mail["From"] = "office@kiltshop.example"
    mail["To"] = contact["mail"]
    mail["Subject"] = job["subject"]
    mail.set_content(f"Dear {contact['name']},\n\n{job['text']}\n")
    try:
        with smtplib.SMTP(*SMTP, timeout=10) as server:
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        link.put_back(frame, f"not sent, {error}", requeue=True)
    else:
        link.finish(frame)
        print(f"sent to {contact['mail']}: {job['subject']}", flush=True)


run(begin, handle)

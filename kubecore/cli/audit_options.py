"""What is audited, and where it is told: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.api import durations
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.audit.options import (
    BATCH,
    FORMATS,
    MODES,
    VERSION,
    AuditOptions,
    LogOptions,
    WebhookOptions,
)
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

PolicyFile = Annotated[Path | None, options.file("An audit Policy (audit.k8s.io/v1): which requests are told of.")]
LogPath = Annotated[str, typer.Option(help="A file that events are written to; - is standard output.")]
LogMaxAge = Annotated[int, typer.Option(min=0, help="Days to keep a file that was set aside; 0: all.")]
LogMaxBackup = Annotated[int, typer.Option(min=0, help="How many of these to keep; 0: all.")]
LogMaxSize = Annotated[int, typer.Option(min=0, help="Megabytes at which the file is set aside; 0: 100.")]
LogCompress = Annotated[bool, typer.Option(help="Compress files that are set aside.")]
LogFormat = Annotated[
    str, typer.Option(callback=options.one_of(FORMATS), help=f"How events are written: {', '.join(FORMATS)}.")
]
Mode = Annotated[
    str,
    typer.Option(
        callback=options.one_of(MODES),
        help="blocking: who waits for anything is told of before; blocking-strict: all are, or refused; batch: nobody.",
    ),
]
Version = Annotated[str, typer.Option(callback=options.one_of((VERSION,)), help=f"Of the events: {VERSION}.")]
WebhookMode = Annotated[
    str,
    typer.Option(
        callback=options.one_of((BATCH,), to_come=tuple(mode for mode in MODES if mode != BATCH)),
        help="How events are sent: batch, which nobody waits for.",
    ),
]
BufferSize = Annotated[int, typer.Option(min=1, help="Events that may wait, in mode batch.")]
WebhookConfigFile = Annotated[Path | None, options.file("A kubeconfig: who events are sent to.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Events sent at once.")]
BatchWait = Annotated[str, typer.Option(callback=options.lasting, help="How long to wait for so many at the most.")]
Throttle = Annotated[
    bool,
    typer.Option(
        "--audit-webhook-batch-throttle-enable/--no-audit-webhook-batch-throttle-enable",
        help="Whether batches are sent no faster than the two options that follow say.",
    ),
]
ThrottleRate = Annotated[float, typer.Option(help="Batches a second, in the long run.")]
ThrottleBurst = Annotated[int, typer.Option(help="Batches at once, where fewer were sent before.")]
LogTruncates = Annotated[bool, typer.Option("--audit-log-truncate-enabled", help="Whether events are made to fit.")]
LogBatchBytes = Annotated[
    int, typer.Option(help="Not less than the bytes of an event. A file has no batches, so nothing else comes of it.")
]
Truncates = Annotated[
    bool, typer.Option("--audit-webhook-truncate-enabled", help="Whether events and batches are made to fit.")
]
BatchBytes = Annotated[int, typer.Option(help="Bytes of the events of a batch, which is split where it has more.")]
EventBytes = Annotated[
    int, typer.Option(help="Bytes of an event, beyond which its objects, or all of it, are left out.")
]
BackOff = Annotated[
    str, typer.Option(callback=options.lasting, help="How long a batch that failed waits for its second try.")
]


def _asked(
    audit_policy_file: PolicyFile = None,
    audit_log_path: LogPath = "",
    audit_log_maxage: LogMaxAge = 0,
    audit_log_maxbackup: LogMaxBackup = 0,
    audit_log_maxsize: LogMaxSize = 0,
    audit_log_compress: LogCompress = False,
    audit_log_format: LogFormat = "json",
    audit_log_mode: Mode = "blocking",
    audit_log_version: Version = VERSION,
    audit_log_batch_buffer_size: BufferSize = 10_000,
    audit_log_truncate_enabled: LogTruncates = False,
    audit_log_truncate_max_batch_size: LogBatchBytes = 10 << 20,
    audit_log_truncate_max_event_size: EventBytes = 100 << 10,
    audit_webhook_config_file: WebhookConfigFile = None,
    audit_webhook_mode: WebhookMode = BATCH,
    audit_webhook_version: Version = VERSION,
    audit_webhook_batch_buffer_size: BufferSize = 10_000,
    audit_webhook_batch_max_size: BatchSize = 400,
    audit_webhook_batch_max_wait: BatchWait = "30s",
    audit_webhook_initial_backoff: BackOff = "10s",
    audit_webhook_batch_throttle_enable: Throttle = True,
    audit_webhook_batch_throttle_qps: ThrottleRate = 10.0,
    audit_webhook_batch_throttle_burst: ThrottleBurst = 15,
    audit_webhook_truncate_enabled: Truncates = False,
    audit_webhook_truncate_max_batch_size: BatchBytes = 10 << 20,
    audit_webhook_truncate_max_event_size: EventBytes = 100 << 10,
) -> AuditOptions:
    if audit_webhook_batch_throttle_enable:
        _check_throttle(audit_webhook_batch_throttle_qps, audit_webhook_batch_throttle_burst)
    if audit_log_truncate_enabled:
        _check_truncation("log", audit_log_truncate_max_batch_size, audit_log_truncate_max_event_size)
    if audit_webhook_truncate_enabled:
        _check_truncation("webhook", audit_webhook_truncate_max_batch_size, audit_webhook_truncate_max_event_size)
    return AuditOptions(
        policy=_policy(audit_policy_file),
        log=LogOptions(
            path=audit_log_path,
            days=audit_log_maxage,
            backups=audit_log_maxbackup,
            megabytes=audit_log_maxsize,
            compress=audit_log_compress,
            legacy=audit_log_format == "legacy",
            mode=audit_log_mode,
            buffer=audit_log_batch_buffer_size,
            event_bytes=audit_log_truncate_max_event_size if audit_log_truncate_enabled else 0,
        ),
        webhook=WebhookOptions(
            config_file=audit_webhook_config_file,
            buffer=audit_webhook_batch_buffer_size,
            batch=audit_webhook_batch_max_size,
            wait=durations.seconds(audit_webhook_batch_max_wait),
            back_off=durations.seconds(audit_webhook_initial_backoff),
            rate=audit_webhook_batch_throttle_qps if audit_webhook_batch_throttle_enable else 0.0,
            burst=audit_webhook_batch_throttle_burst,
            event_bytes=audit_webhook_truncate_max_event_size if audit_webhook_truncate_enabled else 0,
            batch_bytes=audit_webhook_truncate_max_batch_size,
        ),
    )


def _check_throttle(rate: float, burst: int) -> None:
    """Raises BadParameter in kube-apiserver's words."""
    for what, value in (("QPS", rate), ("burst", burst)):
        if value <= 0:
            told = f"invalid audit batch webhook throttle {what} {value:g}, must be a positive number"
            raise typer.BadParameter(told)


def _check_truncation(where: str, batch: int, event: int) -> None:
    """Likewise."""
    told = f"invalid audit truncate {where} max"
    if event <= 0:
        raise typer.BadParameter(f"{told} event size {event}, must be a positive number")
    if batch < event:
        raise typer.BadParameter(f"{told} batch size {batch}, must be greater than max event size ({event})")


def _policy(file: Path | None) -> bytes:
    """Raises BadParameter in kube-apiserver's words."""
    if file is None:
        return b""
    from kubecore.apiserver.audit import policy

    try:
        return policy.load(file.read_text())
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        told = f"loading audit policy file: {error}: from file {file}"
    except OSError as error:
        told = f'loading audit policy file: failed to read file path "{file}": {error}'
    raise typer.BadParameter(told, param_hint="'--audit-policy-file'")


audit_options = stands_for("audit", _asked, "Audit options")

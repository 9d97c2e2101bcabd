//! What `--help` shows of each verb in use. `make documents` runs every one of them.

pub(super) const BACKUP: &str = "Examples:\n  tanker backup                    every master of the inventory\n  tanker backup 'prod-*' --forks 2  two at a time\n  tanker backup @failed            those that failed in the last run\n  tanker backup --resume east      go on after a lid was closed";
pub(super) const CHECK: &str =
    "Examples:\n  tanker check                 every master of the inventory\n  tanker check 'prod-*' --forks 20  twenty at a time";
pub(super) const CLEAN: &str = "Examples:\n  tanker clean                     what would be removed\n  tanker clean --yes";
pub(super) const COPY: &str =
    "Examples:\n  tanker copy east@latest --to vault\n  tanker copy east --from vault    all of them back, after the library was lost";
pub(super) const DIFF: &str = "Examples:\n  tanker diff east@2026-11-22 east@latest";
pub(super) const DRILL: &str = "Examples:\n  tanker drill east@latest --on west   a machine with Docker";
pub(super) const EXPORT: &str = "Examples:\n  tanker export east@latest --to out";
pub(super) const EXTRACT: &str = "Examples:\n  tanker extract east@latest etc/fuel/astute.yaml --to out";
pub(super) const FORGET: &str = "Examples:\n  tanker forget --keep-daily 7 --keep-weekly 4       what would go\n  tanker forget --yes                                by the inventory's 'keep'\n  tanker forget east --remote vault --keep-last 3 --yes";
pub(super) const LIST: &str =
    "Examples:\n  tanker list east\n  tanker list --tag before-upgrade\n  tanker list --trash\n  tanker list --remote vault";
pub(super) const REKEY: &str = "Examples:\n  tanker rekey --all               what would be encrypted anew\n  tanker rekey --all --yes";
pub(super) const REPORT: &str =
    "Examples:\n  tanker report                    how each master stands\n  tanker report --html report.html --max-age 2d";
pub(super) const RESTORE: &str = "Examples:\n  tanker restore east@latest --to east --dry-run   the plan, no more\n  tanker restore east@2026-11-22 --to east         the newest of that day\n  tanker restore east@latest --to east --only config,database\n  tanker restore --to east --rollback              after the master was restarted in the middle";
pub(super) const SYNC: &str = "Examples:\n  tanker sync --to vault --dry-run  what it lacks\n  tanker sync --to vault";
pub(super) const TAG: &str = "Examples:\n  tanker tag east@latest --add before-upgrade";
pub(super) const THAW: &str = "Examples:\n  tanker thaw east";
pub(super) const TRUST: &str = "Examples:\n  tanker trust east                its key is shown and asked about\n  tanker trust east --rebuilt --yes  a key that has changed, once it was compared";
pub(super) const UNDELETE: &str = "Examples:\n  tanker undelete HOST@ID          as 'tanker list --trash' shows it";
pub(super) const VERIFY: &str = "Examples:\n  tanker verify east@latest --deep  every byte and file of one\n  tanker verify --sample 5% --deep  a share, longest unseen first: for a timer\n  tanker verify --all --remote vault  read copies back";

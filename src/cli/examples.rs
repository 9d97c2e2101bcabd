//! What `--help` shows of each verb in use. `make documents` runs every one of them.

pub(super) const BACKUP: &str = "Examples:\n  tanker backup                    every master of the inventory\n  tanker backup 'prod-*' --forks 2  two at a time\n  tanker backup @failed            those that failed in the last run\n  tanker backup --resume east      go on after a lid was closed";
pub(super) const CHECK: &str =
    "Examples:\n  tanker check                 every master of the inventory\n  tanker check 'prod-*' --forks 20  twenty at a time";
pub(super) const CLEAN: &str = "Examples:\n  tanker clean                     what would be removed\n  tanker clean --yes";
pub(super) const COMPLETIONS: &str = "Examples:\n  tanker completions bash > ~/.local/share/bash-completion/completions/tanker";
pub(super) const CONFIG_CHECK: &str = "Examples:\n  tanker config check";
pub(super) const COPY: &str =
    "Examples:\n  tanker copy east@latest --to vault\n  tanker copy east --from vault    all of them back, after the library was lost";
pub(super) const DIFF: &str = "Examples:\n  tanker diff east@2026-11-22 east@latest";
pub(super) const DRILL: &str = "Examples:\n  tanker drill east@latest --on west   a machine with Docker";
pub(super) const EXPORT: &str = "Examples:\n  tanker export east@latest --to out";
pub(super) const EXTRACT: &str = "Examples:\n  tanker extract east@latest etc/fuel/astute.yaml --to out";
pub(super) const FILES: &str = "Examples:\n  tanker files east@latest";
pub(super) const FORGET: &str = "Examples:\n  tanker forget --keep-daily 7 --keep-weekly 4       what would go\n  tanker forget --yes                                by the inventory's 'keep'\n  tanker forget east --remote vault --keep-last 3 --yes";
pub(super) const HOSTS_CHECK: &str =
    "Examples:\n  tanker hosts check               every master of the inventory\n  tanker hosts check 'prod-*' --forks 20";
pub(super) const HOSTS_LIST: &str = "Examples:\n  tanker hosts list 'prod-*'        how each is reached";
pub(super) const IMPORT: &str = "Examples:\n  tanker import fuel_backup_2026-11-22_1407.tar.lrz --host old-east";
pub(super) const INIT: &str = "Examples:\n  tanker init                      with the hosts of ~/.ssh/config\n  tanker init root@10.20.0.2 ops@10.20.0.3:2222 --to masters.toml";
pub(super) const LIST: &str =
    "Examples:\n  tanker list east\n  tanker list --tag before-upgrade\n  tanker list --trash\n  tanker list --remote vault";
pub(super) const MAN: &str =
    "Examples:\n  tanker man | man -l -            the main one\n  tanker man --to man1             a page for each verb";
pub(super) const NOTE: &str =
    "Examples:\n  tanker note east@latest 'before the network moves'\n  tanker note east@latest ''        takes it away";
pub(super) const PROTECT: &str = "Examples:\n  tanker protect east@latest";
pub(super) const REKEY: &str = "Examples:\n  tanker rekey --all               what would be encrypted anew\n  tanker rekey --all --yes";
pub(super) const REPORT: &str =
    "Examples:\n  tanker report                    how each master stands\n  tanker report --html report.html --max-age 2d";
pub(super) const RESTORE: &str = "Examples:\n  tanker restore east@latest --to east --dry-run   the plan, no more\n  tanker restore east@2026-11-22 --to east         the newest of that day\n  tanker restore east@latest --to east --only config,database\n  tanker restore --to east --rollback              after the master was restarted in the middle";
pub(super) const SHOW: &str =
    "Examples:\n  tanker show east@latest\n  tanker show east@2026-11-22 --json  the manifest of that day's newest";
pub(super) const STATS: &str = "Examples:\n  tanker stats                     of all of them\n  tanker stats 'prod-*' --json";
pub(super) const STATUS: &str = "Examples:\n  tanker status                    what runs, waits or is half done on each master";
pub(super) const SYNC: &str = "Examples:\n  tanker sync --to vault --dry-run  what it lacks\n  tanker sync --to vault";
pub(super) const TAG: &str = "Examples:\n  tanker tag east@latest --add before-upgrade";
pub(super) const THAW: &str = "Examples:\n  tanker thaw east";
pub(super) const TRUST: &str = "Examples:\n  tanker trust east                its key is shown and asked about\n  tanker trust east --rebuilt --yes  a key that has changed, once it was compared";
pub(super) const UNDELETE: &str = "Examples:\n  tanker undelete HOST@ID          as 'tanker list --trash' shows it";
pub(super) const UNPROTECT: &str = "Examples:\n  tanker unprotect east@latest";
pub(super) const VERIFY: &str = "Examples:\n  tanker verify east@latest --deep  every byte and file of one\n  tanker verify --sample 5% --deep  a share, longest unseen first: for a timer\n  tanker verify --all --remote vault  read copies back";

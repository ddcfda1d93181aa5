//! Real children, short ones.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Short steps, so that a kill chain is seen to its end.
const QUICK: Limits =
    Limits { grace: Duration::from_millis(300), drain: Duration::from_millis(300), ..Limits::NONE };

fn shell(script: &str) -> Program {
    Program { limits: QUICK, ..Program::new(["/bin/sh", "-c", script]) }
}

async fn lines(program: Program) -> (Ended, Vec<String>) {
    let mut heard = Vec::new();
    let ended = run(program, &CancellationToken::new(), |source, line| {
        heard.push(format!("{source:?} {}", printable(line)));
        Sign::Life
    })
    .await
    .unwrap();
    (ended, heard)
}

/// Waits until a process is gone; fails after 10 s.
fn gone(pid: &str) {
    let until = Instant::now() + 10 * SECOND;
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z")) {
        assert!(Instant::now() < until, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn output_and_exit_code_are_reported() {
    let (ended, heard) = lines(shell("echo out; echo err >&2; printf last; exit 7")).await;
    assert_eq!((ended.how, ended.stopped), (How::Exited(7), None));
    assert_eq!(ended.stderr_tail, "err");
    let (out, err): (Vec<_>, Vec<_>) = heard.into_iter().partition(|l| l.starts_with("Stdout"));
    assert_eq!((out, err), (vec!["Stdout out".into(), "Stdout last".into()], vec!["Stderr err".into()]));
}

#[tokio::test]
async fn the_environment_is_clean_and_standard_input_empty() {
    let (_, heard) = lines(Program { env: vec![("A".into(), "1".into())], ..shell("env; cat; pwd") }).await;
    let mut names: Vec<_> = heard.iter().map(|l| l.split('=').next().unwrap()).collect();
    names.sort_unstable();
    let (ours, usual) = ("Stdout HOLDFAST_PARENT", ["Stdout LANG", "Stdout PATH", "Stdout PWD"]);
    assert_eq!(names, [&["Stdout /", "Stdout A", ours, "Stdout HOME"][..], &usual].concat());
}

#[tokio::test]
async fn what_definitions_name_and_what_is_to_stay_is_not_marked_as_ours() {
    let free = Program { sandbox: Sandbox::None, ..shell("env") };
    let stays = Program { leftovers: Leftovers::Stay, ..shell("env") };
    for program in [free, stays] {
        let (_, heard) = lines(program).await;
        assert!(heard.iter().all(|line| !line.contains("HOLDFAST_PARENT")), "{heard:?}");
    }
}

#[tokio::test]
async fn bytes_reach_the_child_even_when_it_does_not_read_them_all() {
    let big = vec![b'x'; 3 << 20];
    let program = Program { stdin: Stdin::Bytes(big.clone()), ..shell("wc -c") };
    assert_eq!(lines(program).await.1, ["Stdout 3145728"]);
    let program = Program { stdin: Stdin::Bytes(big), ..shell("exit 3") };
    assert_eq!(lines(program).await.0.how, How::Exited(3));
}

#[tokio::test]
async fn a_flood_on_standard_error_leaves_only_its_tail() {
    let (mut bytes, script) = (0_usize, "head -c 300000000 /dev/zero | tr '\\0' 'e' >&2; echo end >&2");
    let ended = run(shell(script), &CancellationToken::new(), |_, line| {
        bytes = bytes.max(line.len());
        Sign::Life
    })
    .await
    .unwrap();
    assert_eq!(bytes, MAX_LINE);
    assert!(ended.ok() && ended.stderr_tail.ends_with("eend") && ended.stderr_tail.len() <= MAX_TAIL);
}

#[tokio::test]
async fn cancelling_interrupts_first_so_that_a_child_can_clean_up() {
    let cancel = CancellationToken::new();
    let script = "trap 'echo cleaned; exit 130' INT; echo ready; while :; do sleep 0.05; done";
    let mut heard = Vec::new();
    let ended = run(shell(script), &cancel, |_, line| {
        cancel.cancel();
        heard.push(printable(line));
        Sign::Life
    });
    let ended = ended.await.unwrap();
    assert_eq!((ended.how, ended.stopped), (How::Exited(130), Some(Why::Cancelled)));
    assert_eq!(heard, ["ready", "cleaned"]);
}

#[tokio::test]
async fn a_child_that_ignores_every_request_is_killed_with_its_group() {
    let script = "trap '' INT TERM; sleep 100 & echo $!; while :; do sleep 0.05; done";
    let mut pid = String::new();
    let limits = Limits { timeout: Some(SECOND / 2), ..QUICK };
    let cancel = CancellationToken::new();
    let ended = run(Program { limits, ..shell(script) }, &cancel, |_, line| {
        pid = printable(line);
        Sign::Life
    });
    let ended = ended.await.unwrap();
    assert_eq!((ended.how, ended.stopped), (How::Signalled(9), Some(Why::TimedOut)));
    assert!(ended.duration >= SECOND, "both graces were given: {:?}", ended.duration);
    gone(&pid);
}

#[tokio::test]
async fn silence_is_a_stall_and_talk_without_progress_too() {
    for script in ["sleep 100", "while :; do echo same; sleep 0.05; done", "kill -STOP $$"] {
        let limits = Limits { stall: Some(SECOND / 2), work_counts: true, ..QUICK };
        let cancel = CancellationToken::new();
        let ended = run(Program { limits, ..shell(script) }, &cancel, |_, _| Sign::Nothing);
        assert_eq!(ended.await.unwrap().stopped, Some(Why::Stalled), "{script}");
    }
}

#[tokio::test]
async fn silent_work_is_no_stall() {
    let script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let limits = Limits { stall: Some(SECOND / 2), work_counts: true, ..QUICK };
    let script = format!("{script}; {script}; {script}; {script}");
    let cancel = CancellationToken::new();
    let ended = run(Program { limits, ..shell(&script) }, &cancel, |_, _| Sign::Nothing);
    let ended = ended.await.unwrap();
    assert!(ended.ok(), "{ended:?}");
}

#[tokio::test]
async fn a_leftover_that_holds_the_pipe_is_killed_after_a_short_grace() {
    let began = Instant::now();
    let (ended, heard) = lines(shell("sleep 1000 & echo $!")).await;
    assert!(ended.ok() && began.elapsed() < 5 * SECOND);
    gone(heard[0].trim_start_matches("Stdout "));
}

#[tokio::test]
async fn dropping_the_future_kills_the_group() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let cancel = CancellationToken::new();
        run(shell("sleep 1000 & echo $!; echo $$; wait"), &cancel, |_, line| {
            _ = sender.send(printable(line));
            Sign::Life
        })
        .await
    });
    let pids = [receiver.recv().await.unwrap(), receiver.recv().await.unwrap()];
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    pids.iter().for_each(|pid| gone(pid));
}

#[tokio::test]
async fn every_child_asks_to_die_with_the_daemon() {
    let (_, heard) = lines(Program::new(["setpriv", "--dump"])).await;
    assert!(heard.contains(&"Stdout Parent death signal: KILL".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let start =
        async |program: Program| run(program, &cancel, |_, _| Sign::Life).await.unwrap_err().to_string();
    assert_eq!(start(Program::new(["/no/such"])).await, "program not found: /no/such");
    assert_eq!(start(Program::new(["no-such-program"])).await, "program not found: no-such-program");
    assert_eq!(start(Program::new([""])).await, "program not found: ");
    let hook = dir.path().join("hook");
    std::fs::write(&hook, "#!/no/such/interpreter\n").unwrap();
    assert!(start(Program::new([&hook])).await.contains("chmod +x"));
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(start(Program::new([&hook])).await.contains("hook cannot be executed: No such file"));
    let lost = Program { dir: Some(dir.path().join("gone")), ..Program::new(["true"]) };
    assert!(start(lost).await.contains("gone to run true in: No such file"));
}

#[tokio::test]
async fn a_relative_program_is_found_in_its_directory() {
    let program = Program { dir: Some("/usr".into()), ..Program::new(["bin/pwd"]) };
    assert_eq!(lines(program).await.1, ["Stdout /usr"]);
}

#[tokio::test]
async fn background_work_yields() {
    let program = Program {
        nice: true,
        ..shell("nice; cat /proc/self/oom_score_adj; sleep 0.2; cat /proc/self/oom_score_adj")
    };
    let heard = lines(program).await.1;
    assert_eq!((heard[0].as_str(), heard[2].as_str()), ("Stdout 10", "Stdout 500"));
}

#[tokio::test]
async fn another_user_is_for_root_only() {
    let nobody = Account { name: "nobody".into(), uid: 65534, gid: 65534, home: "/nonexistent".into() };
    let program = Program { user: Some(nobody), ..shell("id -u; id -g; id -G; echo $HOME $USER") };
    if rustix::process::geteuid().is_root() {
        let expected = ["Stdout 65534", "Stdout 65534", "Stdout 65534", "Stdout /nonexistent nobody"];
        assert_eq!(lines(program).await.1, expected);
    } else {
        let error = run(program, &CancellationToken::new(), |_, _| Sign::Life).await.unwrap_err();
        assert!(matches!(error, Error::OtherUser { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_whole_output_is_taken_but_not_more_than_allowed() {
    let cancel = CancellationToken::new();
    assert_eq!(capture(shell("printf 'a\\nb'"), &cancel, 3).await.unwrap().stdout, b"a\nb");
    let error = capture(shell("yes"), &cancel, 1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::TooMuchOutput { limit: 1_048_576, .. }), "{error}");
}

#[test]
fn a_child_outlives_the_runtime_thread_that_asked_for_it() {
    // Children of a thread that ends would get their parent-death signal; ours come from a thread that stays.
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = std::thread::spawn(move || {
        let command = shell("sleep 100").command(true).unwrap();
        let terms = spawner::Terms { group: true, yields: false, spares: false };
        runtime().block_on(spawner::spawn(command, terms)).unwrap()
    })
    .join()
    .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!running.has_ended());
}

using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests.Faults;

/// <summary>What the runs of one operation came to.</summary>
internal sealed record FaultReport(
    string Operation,
    int Reads,
    int Changes,
    IReadOnlyDictionary<(FaultKind Kind, Outcome Outcome), int> Outcomes
)
{
    public int Of(Outcome outcome) => Outcomes.Where(o => o.Key.Outcome == outcome).Sum(o => o.Value);

    public int Of(FaultKind kind) => Outcomes.Where(o => o.Key.Kind == kind).Sum(o => o.Value);

    public int Total => Outcomes.Values.Sum();
}

/// <summary>
/// Records the accesses of an operation's run without faults; then, for each access and each fault that can befall it (in the quick run:
/// one of them), a run of its own on a new host, settled as an agent would, and compared with what must hold afterwards.
/// </summary>
internal sealed class FaultInjection(FaultOperation operation)
{
    private const int Attempts = 3;
    private const int MostSaid = 40;
    private static readonly TimeSpan Limit = new PassthroughHostOptions().WriteTimeout;

    private readonly Dictionary<(FaultKind, Outcome), int> _outcomes = [];
    private readonly Dictionary<(int At, bool After), string> _deaths = [];
    private readonly Dictionary<string, Outcome> _settled = new(StringComparer.Ordinal);
    private Dictionary<string, (string? Driver, int? NumVfs)> _drivers = [];
    private string _start = "",
        _before = "",
        _done = "",
        _doneWithoutSettings = "";
    private readonly List<string> _afterReboot = [];

    // Some accesses fail without any fault: a method of reset that the device hasn't.
    private readonly HashSet<int> _succeeding = [];
    private readonly Dictionary<string, AssignmentRequest> _asked = new(StringComparer.Ordinal);
    private SimulatedAccess _current = null!;

    public async Task<FaultReport> RunAsync()
    {
        List<SimulatedAccess> accesses = await Record();
        var failures = new List<(string What, string Where)>();
        for (int at = 0; at < accesses.Count; at++)
        {
            _current = accesses[at];
            foreach (
                (FaultKind kind, Func<int, Task<IEnumerable<Outcome>>> run) in TestScope.Turn(
                    [.. RunsFor(_current, _succeeding.Contains(at))],
                    at
                )
            )
            {
                try
                {
                    foreach (Outcome outcome in await run(at))
                        _outcomes[(kind, outcome)] = _outcomes.GetValueOrDefault((kind, outcome)) + 1;
                }
#pragma warning disable CA1031 // all that fail are said together
                catch (Exception e)
#pragma warning restore CA1031
                {
                    failures.Add(
                        (
                            $"{kind}: {e.Message.Replace(_current.Path, "PATH", StringComparison.Ordinal)}",
                            $"{at}/{accesses.Count} {_current.Operation} {_current.Path} {_current.Value.Split('\n')[0]}"
                        )
                    );
                }
            }
        }

        Assert.True(
            failures.Count == 0,
            $"{operation.Name}: {failures.Count} runs failed:\n"
                + string.Join(
                    '\n',
                    failures
                        .GroupBy(f => f.What)
                        .Take(MostSaid)
                        .Select(g => $"{g.Count()} × {g.Key}\n    at {string.Join("\n    at ", g.Select(f => f.Where).Distinct().Take(3))}")
                )
        );

        return new FaultReport(operation.Name, accesses.Count(a => !a.IsChange), accesses.Count(a => a.IsChange), _outcomes);
    }

    private IEnumerable<(FaultKind, Func<int, Task<IEnumerable<Outcome>>>)> RunsFor(SimulatedAccess access, bool succeeds)
    {
        foreach (int errno in PlausibleErrors.Of(access))
        {
            yield return (FaultKind.Error, at => Error(at, errno, lasting: false, after: false));
            yield return (FaultKind.LastingError, at => Error(at, errno, lasting: true, after: false));
            if (access.IsChange && succeeds)
                yield return (FaultKind.ErrorAfter, at => Error(at, errno, lasting: false, after: true));
        }

        yield return (FaultKind.Hang, at => Hang(at, after: false, withdrawn: false));
        if (access.IsChange && succeeds)
            yield return (FaultKind.HangAfter, at => Hang(at, after: true, withdrawn: false));
        if (operation is PrepareOperation and not ReleaseOperation { } && access.Operation != SimulatedOperation.Read)
            yield return (FaultKind.HangWithdrawn, at => Hang(at, after: false, withdrawn: true));
        if (operation.Removable is { } card)
            yield return (FaultKind.Gone, at => Gone(at, card));
        foreach (bool after in succeeds ? new[] { false, true } : [false])
        {
            yield return (FaultKind.Crash, at => Crash(at, after, reboot: false));
            yield return (FaultKind.CrashReboot, at => Crash(at, after, reboot: true));
        }

        if (access.IsChange)
        {
            yield return (FaultKind.CrashInHang, CrashInHang);
            yield return (FaultKind.RebootInHang, RebootInHang);
        }
    }

    /// <summary>The run without faults: what is compared with, and the accesses.</summary>
    private async Task<List<SimulatedAccess>> Record()
    {
        FaultLab lab = await NewLab();
        var accesses = new List<SimulatedAccess>();
        lab.Host.Fault = a =>
        {
            if (a.Before)
                accesses.Add(a);
            else
                _succeeding.Add(accesses.Count - 1);
        };
        Answer answer = await operation.Attempt(lab);
        lab.Host.Fault = null;
        Assert.True(answer.Outcome == operation.Expected, $"without faults: {answer}");
        (_done, _doneWithoutSettings) = (lab.Picture(), lab.Picture(settings: false));
        await End(lab, [_start]);
        var other = new FaultLab(operation.NewHost(), _asked);
        await other.Reboot();
        _afterReboot.Add(other.Picture());
        if (operation.VfsAfterReboot > 0)
        {
            other.Host.Files.Write($"/sys/bus/pci/devices/{FaultHosts.Pf}/sriov_numvfs", $"{operation.VfsAfterReboot}");
            _afterReboot.Add(other.Picture());
        }

        return accesses;
    }

    private async Task<FaultLab> NewLab()
    {
        var lab = new FaultLab(operation.NewHost(), _asked);
        await lab.Agent.RecoverAsync();
        lab.Other = lab.Asking("claim-other", [FaultHosts.Other]);
        if (_start.Length == 0)
        {
            _start = lab.Picture();
            _drivers = lab.Host.Functions.ToDictionary(f => f.Address, f => (f.Driver, operation is VfsOperation ? null : f.Sriov?.NumVfs));
        }

        await operation.Arrange(lab);
        if (_before.Length == 0)
            _before = lab.Picture();
        return lab;
    }

    private async Task<IEnumerable<Outcome>> Error(int at, int errno, bool lasting, bool after)
    {
        FaultLab lab = await NewLab();
        string? broken = null;
        OnAccess(
            lab,
            at,
            after,
            a =>
            {
                broken = a.Path;
                throw PlausibleErrors.Exception(a, errno);
            },
            a =>
            {
                if (lasting && a.Before && a.Path == broken)
                    throw PlausibleErrors.Exception(a, errno);
            }
        );
        Answer answer = await Settle(lab, operation.Attempt);
        if (
            lasting
            && !broken!.StartsWith("/proc/", StringComparison.Ordinal)
            && !broken.StartsWith(SimulatedHost.StateDirectory, StringComparison.Ordinal)
            && operation.IsItsOwn(broken)
        )
        {
            await lab.CheckOthersGoOn();
        }

        lab.Host.Fault = null;
        Assert.NotNull(broken);
        if (lab.Withheld(operation.Cards) is { } why)
            return [await Withheld(lab, why)];
        if (answer.Outcome == Outcome.Done && LostSettings(lab))
            return [Outcome.Quarantined];
        Check(lab, answer);
        CheckClean(lab, answer);
        await lab.CheckConsistency(_drivers);
        if (answer.Outcome == Outcome.Quarantined)
            await operation.CheckNotOffered(lab);
        Answer again = await Settle(lab, operation.Attempt);
        if (lab.Unbindable(operation.Cards) is { } unbindable)
        {
            await Believe(lab, unbindable, errno);
            again = await Settle(lab, operation.Attempt);
        }

        Assert.True(again.Outcome == operation.Expected, $"with the fault gone: {again}");
        await End(lab, [_start]);
        return [answer.Outcome];
    }

    /// <summary>All is back but the settings of a VF that was made again, and the agent has said so.</summary>
    private bool LostSettings(FaultLab lab)
    {
        if (lab.Picture() == _done || lab.Picture(settings: false) != _doneWithoutSettings)
            return false;
        Assert.Contains(lab.Log, line => line.Contains("differ from what they were", StringComparison.Ordinal));
        return true;
    }

    /// <summary>
    /// A driver that says EINVAL says it again: the device isn't taken off its driver for nothing, until an administrator says so.
    /// </summary>
    private async Task Believe(FaultLab lab, string why, int errno)
    {
        Assert.True(errno == Errnos.EINVAL && _current.Path == "/sys/bus/pci/drivers_probe", $"remembered, and it may pass: {why}");
        CheckNamed(new Answer(Outcome.Undone, HoldingReasons.Withheld, why));
        string[] before = [.. lab.Host.Functions.Select(f => $"{f.Address} {f.Driver}")];
        Answer refused = await operation.Attempt(lab);
        Assert.True(refused is { Outcome: Outcome.Undone, Reason: HoldingReasons.Withheld }, $"said to be unbindable, and: {refused}");
        Assert.Equal(before, lab.Host.Functions.Select(f => $"{f.Address} {f.Driver}"));
        Assert.Contains(operation.Cards, card => lab.Agent.ClearUsedOnce(PciAddress.Parse(card)));
        Assert.Null(lab.Unbindable(operation.Cards));
    }

    /// <summary>The fault cost the device its cleanness: nobody gets it before the next boot, which cleans it.</summary>
    private async Task<Outcome> Withheld(FaultLab lab, string why)
    {
        CheckNamed(new Answer(Outcome.Quarantined, null, why));
        Answer end = await Settle(lab, operation.Reverse);
        Assert.True(end.Outcome == Outcome.Undone, $"withheld, and at the end: {end}");
        Assert.Empty(lab.Agent.Holdings);
        Assert.All(lab.Host.Functions, f => Assert.Null(f.Override));
        if (operation is PrepareOperation { IsRefused: false })
        {
            Holding next = await lab.Agent.PrepareAsync(lab.Request! with { ClaimUid = "claim-2", ClaimName = "claim-2" });
            Assert.True(next.State == HoldingState.Rejected, $"withheld, and given away: {next}");
        }

        await lab.Reboot();
        await operation.AfterReboot(lab);
        Assert.Null(lab.Withheld(operation.Cards));
        Answer again = await Settle(lab, operation.Attempt);

        // What must be reset and couldn't be stays refused, with what was tried.
        if (again.Reason == HoldingReasons.Withheld && lab.Request!.Devices.Any(d => d.Reset == ResetMode.Required))
        {
            CheckNamed(again);
            return Outcome.Quarantined;
        }

        Assert.True(again.Outcome == operation.Expected, $"withheld, after the next boot: {again}");
        await End(lab, [_start, .. _afterReboot]);
        return Outcome.Quarantined;
    }

    /// <summary>What nobody holds any more nobody's guest has left its traces in.</summary>
    private void CheckClean(FaultLab lab, Answer answer)
    {
        if (operation is ReleaseOperation && answer.Outcome == Outcome.Done)
            Assert.All(operation.Cards, card => Assert.False(lab.Host.Find(card)!.Dirty, $"{card} is dirty, and offered"));
    }

    private async Task<IEnumerable<Outcome>> Hang(int at, bool after, bool withdrawn)
    {
        FaultLab lab = await NewLab();
        TaskCompletionSource entered = NewSignal();
        using var goOn = new ManualResetEventSlim();
        if (_current.IsChange && !after)
        {
            HoldAt(lab, at, entered);
        }
        else
        {
            OnAccess(
                lab,
                at,
                after,
                _ =>
                {
                    entered.TrySetResult();
                    goOn.Wait();
                }
            );
        }

        try
        {
            Task<Answer> attempt = Task.Run(() => operation.Attempt(lab));
            await Reach(entered, attempt);

            // Nobody else looks at a device that is locked.
            bool comparable = lab.Agent.Holdings.Count > 0 && (_current.Operation != SimulatedOperation.Write || after);
            if (operation.IsWatched)
            {
                await lab.CheckOthersGoOn();
                lab.Time.Advance(Limit);
                Answer stuck = await FaultLab.Within(attempt, "the answer");
                Assert.True(
                    stuck is { Outcome: Outcome.Quarantined, Reason: HoldingReasons.WriteBlocked },
                    $"while the call hangs: {stuck}"
                );
                CheckNamed(stuck);
                await LookAround(lab);
                if (comparable)
                    await operation.CheckNotOffered(lab);
                await lab.CheckOthersGoOn();
                if (withdrawn)
                {
                    Answer waiting = await FaultLab.Within(Task.Run(() => operation.Reverse(lab)), "the release");
                    Assert.True(waiting.Outcome == Outcome.Quarantined, $"released while the call hangs: {waiting}");
                }
            }
            else
            {
                lab.Time.Advance(Limit);
            }

            lab.Host.LetGo();
            goOn.Set();
            await FaultLab.Within(attempt, "the answer after the hang");
        }
        finally
        {
            lab.Host.LetGo();
            goOn.Set();
        }

        Answer answer = await Unblock(lab, withdrawn ? operation.Reverse : operation.Attempt);
        lab.Host.Fault = null;
        CheckClean(lab, answer);
        Assert.True(answer.Outcome == (withdrawn ? Outcome.Undone : operation.Expected), $"after the hang: {answer}");
        if (!withdrawn)
            Check(lab, answer);
        await lab.CheckConsistency(_drivers);
        await End(lab, [_start]);
        return [answer.Outcome];
    }

    private async Task<IEnumerable<Outcome>> Gone(int at, string card)
    {
        FaultLab lab = await NewLab();
        OnAccess(lab, at, after: false, _ => lab.Host.Remove(card));
        Answer answer = await Settle(lab, operation.Attempt);
        lab.Host.Fault = null;
        Assert.True(answer.Outcome == operation.Expected || answer.Message is not null, $"{answer}");
        await lab.CheckConsistency(_drivers);
        if (operation is VfsOperation)
            return [answer.Outcome];
        Answer end = await Settle(lab, operation.Reverse);
        Assert.True(end.Outcome == Outcome.Undone, $"released: {end}");
        Assert.Equal(Without(lab, _start), Without(lab, lab.Picture()));
        Assert.Empty(lab.Agent.Holdings);
        return [answer.Outcome];
    }

    private static string Without(FaultLab lab, string picture) =>
        string.Join(
            '\n',
            picture
                .Split('\n')
                .Where(line => !line.StartsWith("0000:", StringComparison.Ordinal) || lab.Host.Find(line.Split(' ')[0]) is not null)
        );

    /// <summary>One death, and each way to go on from it. A death that leaves the same host and disk as one before is that one.</summary>
    private async Task<IEnumerable<Outcome>> Crash(int at, bool after, bool reboot)
    {
        var all = new List<Outcome>();
        foreach (bool forward in new[] { true, false })
        {
            // A read changes nothing: a death after it is the death before it.
            (int, bool) point = (at, after && _current.IsChange);
            if (_deaths.TryGetValue(point, out string? remains) && _settled.TryGetValue($"{reboot} {forward} {remains}", out Outcome known))
            {
                all.Add(known);
                continue;
            }

            FaultLab lab = await NewLab();
            OnAccess(
                lab,
                at,
                after,
                a =>
                {
                    if (!after && a.Operation == SimulatedOperation.WriteDurably)
                        lab.Host.PutFile($"{a.Path}.9.tmp", a.Value[..(a.Value.Length / 2)]);
                    lab.Host.CrashAgent();
                }
            );
            await Assert.ThrowsAsync<SimulatedCrashException>(() => operation.Attempt(lab));
            lab.Host.Fault = null;
            _deaths[point] = remains = lab.Remains();
            string way = $"{reboot} {forward} {remains}";
            if (!_settled.TryGetValue(way, out known))
            {
                await (reboot ? lab.Reboot() : lab.RestartAgent());
                _settled[way] = known = await GoOn(lab, forward, reboot);
            }

            all.Add(known);
        }

        return all;
    }

    private async Task<Outcome> GoOn(FaultLab lab, bool forward, bool reboot)
    {
        await lab.CheckConsistency(reboot ? _drivers.ToDictionary(d => d.Key, d => (d.Value.Driver, (int?)null)) : _drivers);
        if (reboot)
            await operation.AfterReboot(lab);
        if (forward)
        {
            Answer answer = await Settle(lab, operation.Attempt);
            Assert.True(answer.Outcome == operation.Expected, $"tried again: {answer}");
            if (!reboot)
                Check(lab, answer);
        }

        await End(lab, reboot ? [_start, .. _afterReboot] : [_start]);
        return forward ? operation.Expected : Outcome.Undone;
    }

    private async Task<IEnumerable<Outcome>> CrashInHang(int at)
    {
        var all = new List<Outcome>();
        foreach (bool forward in new[] { true, false })
        {
            FaultLab lab = await NewLab();
            TaskCompletionSource entered = NewSignal();
            HoldAt(lab, at, entered);
            Task<Answer> lost = Task.Run(() => operation.Attempt(lab));
            try
            {
                await Reach(entered, lost);
                await FaultLab.Within(
                    Task.Run(async () =>
                    {
                        await lab.RestartAgent();
                        return true;
                    }),
                    "the next agent's start"
                );
                await LookAround(lab);
                await lab.CheckOthersGoOn();
                Answer first = await Stalling(
                    lab,
                    () => (forward ? operation.Attempt : (Func<FaultLab, Task<Answer>>)operation.Reverse)(lab)
                );
                if (first.Outcome == Outcome.Quarantined)
                {
                    CheckNamed(first);
                    await lab.CheckOthersGoOn();
                }
            }
            finally
            {
                lab.Host.LetGo();
            }

            await CheckLost(lost);
            if (forward)
            {
                Answer answer = await Unblock(lab, operation.Attempt);
                Assert.True(answer.Outcome == operation.Expected, $"the next agent, after the hang: {answer}");
                Check(lab, answer);
            }

            await Unblock(lab, operation.Reverse);
            await lab.CheckConsistency(_drivers);
            await End(lab, [_start]);
            all.Add(forward ? operation.Expected : Outcome.Undone);
        }

        return all;
    }

    private async Task<IEnumerable<Outcome>> RebootInHang(int at)
    {
        FaultLab lab = await NewLab();
        TaskCompletionSource entered = NewSignal();
        HoldAt(lab, at, entered);
        Task<Answer> lost = Task.Run(() => operation.Attempt(lab));
        await Reach(entered, lost);
        await lab.Reboot();
        lab.Host.LetGo();
        await CheckLost(lost);
        return [await GoOn(lab, forward: true, reboot: true)];
    }

    /// <summary>A look at the host returns, whatever hangs, and sees the other devices.</summary>
    private static async Task LookAround(FaultLab lab)
    {
        HostSnapshot? seen = null;
        await Stalling(
            lab,
            () =>
            {
                seen = lab.Agent.Scan();
                return Task.FromResult(new Answer(Outcome.Done, null, null));
            }
        );
        HostFunction other = Assert.Single(seen!.Functions, f => f.Address.ToString() == FaultHosts.Other);
        Assert.True(
            other.GuardReason is null && other.Withheld is null,
            $"another device is not offered: {other.GuardReason ?? other.Withheld}"
        );
    }

    /// <summary>Runs something that may come to wait for a device's lock; when it does, the clock moves on.</summary>
    private static async Task<Answer> Stalling(FaultLab lab, Func<Task<Answer>> body)
    {
        TaskCompletionSource waits = NewSignal();
        lab.Host.Waits = () => waits.TrySetResult();
        Task<Answer> task = Task.Run(body);
        while (await Task.WhenAny(task, waits.Task).WaitAsync(FaultLab.Patience) != task)
        {
            waits = NewSignal();
            lab.Time.Advance(Limit);
        }

        lab.Host.Waits = null;
        return await task;
    }

    /// <summary>Tries until the call that hung has returned, which it has been let to.</summary>
    private static async Task<Answer> Unblock(FaultLab lab, Func<FaultLab, Task<Answer>> attempt)
    {
        var limit = System.Diagnostics.Stopwatch.StartNew();
        while (true)
        {
            Answer answer = await attempt(lab);

            // A look has no reason to give: what hung is passed over until its thread has come round.
            bool blocked =
                answer.Reason is HoldingReasons.WriteBlocked or HoldingReasons.Busy
                || answer.Message?.Contains("the kernel has not finished", StringComparison.Ordinal) == true;
            if (answer.Outcome != Outcome.Quarantined || !blocked)
                return answer.Outcome == Outcome.Quarantined ? await Settle(lab, attempt) : answer;
            Assert.True(limit.Elapsed < FaultLab.Patience, $"still blocked: {answer}");
            await Task.Yield();
        }
    }

    /// <summary>As an agent does: what is neither done nor undone is tried again after a while.</summary>
    private static async Task<Answer> Settle(FaultLab lab, Func<FaultLab, Task<Answer>> attempt)
    {
        for (int i = 1; ; i++)
        {
            Answer answer = await FaultLab.Within(attempt(lab), "the answer");
            if (answer.Outcome != Outcome.Quarantined || i == Attempts)
                return answer;
            lab.Time.Advance(TimeSpan.FromSeconds(2));
        }
    }

    /// <summary>The answer is true, and says enough.</summary>
    private void Check(FaultLab lab, Answer answer)
    {
        switch (answer.Outcome)
        {
            case Outcome.Done:
                Assert.Equal(_done, lab.Picture());
                break;
            case Outcome.Undone:
                Assert.Equal(_before, lab.Picture());
                Assert.False(string.IsNullOrEmpty(answer.Message), "it says not why");
                break;
            default:
                CheckNamed(answer);
                break;
        }
    }

    private void CheckNamed(Answer answer) =>
        Assert.True(
            answer.Message is { Length: > 20 } message
                && operation.Names.Append(_current.Path).Any(name => message.Contains(name, StringComparison.Ordinal)),
            $"it doesn't say what it is about: {answer}"
        );

    /// <summary>The opposite of the operation, and everything is as it was.</summary>
    private async Task End(FaultLab lab, string[] pictures)
    {
        Answer end = await Settle(lab, operation.Reverse);
        Assert.True(end.Outcome == Outcome.Undone, $"at the end: {end}");
        Assert.Contains(lab.Picture(), pictures);
        Assert.Empty(lab.Agent.Holdings);
    }

    /// <summary>Does something at one access, counted from now on, and something else at all that come later.</summary>
    private static void OnAccess(FaultLab lab, int at, bool after, Action<SimulatedAccess> what, Action<SimulatedAccess>? later = null)
    {
        int count = -1;
        bool hit = false;
        lab.Host.Fault = a =>
        {
            if (hit)
            {
                later?.Invoke(a);
                return;
            }

            if (a.Before)
                count++;
            if (count == at && a.Before != after)
            {
                hit = true;
                what(a);
            }
        };
    }

    private static void HoldAt(FaultLab lab, int at, TaskCompletionSource entered)
    {
        bool due = false;
        OnAccess(lab, at, after: false, _ => due = true);
        lab.Host.Holds = _ =>
        {
            if (!due)
                return false;
            due = false;
            entered.TrySetResult();
            return true;
        };
    }

    /// <summary>A dead agent has no word to say; but its watchdog may have said before that it waits.</summary>
    private static async Task CheckLost(Task<Answer> lost)
    {
        try
        {
            Answer answer = await FaultLab.Within(lost, "the dead agent's call");
            Assert.True(answer.Reason == HoldingReasons.WriteBlocked, $"a dead agent says {answer}");
        }
        catch (SimulatedCrashException)
        {
            // As it should be.
        }
    }

    private static async Task Reach(TaskCompletionSource entered, Task<Answer> attempt)
    {
        Task first = await Task.WhenAny(entered.Task, attempt).WaitAsync(FaultLab.Patience);
        Assert.True(first == entered.Task, $"the access was not reached: {(attempt.IsCompletedSuccessfully ? await attempt : null)}");
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}

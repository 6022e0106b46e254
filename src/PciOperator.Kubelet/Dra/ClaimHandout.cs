using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>What the kubelet is told of one device.</summary>
internal sealed record HandedDevice(string Request, string Pool, string Device, IReadOnlyList<string> CdiIds);

/// <summary>What the kubelet is told of one claim: its devices, or why not.</summary>
internal sealed record HandoutAnswer(IReadOnlyList<HandedDevice> Devices, string? Error);

/// <summary>
/// Hands a claim's devices to the kubelet and takes them back. Every claim is answered by itself; asked again, it is the same answer. What
/// takes longer than the kubelet waits goes on, and the next question joins it.
/// </summary>
/// <remarks>
/// Who changes what is handed out of a PassthroughClaim's devices holds that claim's turn, so that they are never handed out while they go
/// back to the host.
/// </remarks>
internal sealed class ClaimHandout(
    KubeletOptions options,
    IKubeletNode node,
    IHostFileSystem files,
    HandoutFiles handout,
    PreparedClaims prepared,
    TimeProvider time,
    ILogger log
)
{
    private const int AtOnce = 8;
    private const string Prepare = "prepare";
    private const string Unprepare = "unprepare";
    private readonly ConcurrentDictionary<(string What, ClaimReference Claim), Work> _underWay = new();
    private readonly Turns _turns = new();
    private readonly SignalOfChange _changes = new();

    /// <summary>What was handed out has changed.</summary>
    public event Action? Changed;

    /// <summary>What this node was given, or how it stands, may have changed: who waits for it looks again.</summary>
    public void NodeChanged() => _changes.Raise();

    /// <summary>Answers for each claim, by UID.</summary>
    public Task<IReadOnlyDictionary<string, HandoutAnswer>> PrepareAsync(IEnumerable<ClaimReference> claims) =>
        EachAsync(claims, Prepare, PrepareAsync);

    /// <summary>Answers for each claim, by UID.</summary>
    public Task<IReadOnlyDictionary<string, HandoutAnswer>> UnprepareAsync(IEnumerable<ClaimReference> claims) =>
        EachAsync(claims, Unprepare, UnprepareAsync);

    /// <summary>
    /// Takes back whatever was handed out of a PassthroughClaim's devices: they go back to the host next. Done again it does nothing.
    /// </summary>
    /// <exception cref="HostIoException">It can't be taken back: the devices must stay where they are.</exception>
    public async Task WithdrawAsync(string claimUid, CancellationToken ct)
    {
        using IDisposable turn = await _turns.TakeAsync(claimUid, ct);
        foreach (PreparedClaim claim in prepared.All.Where(c => c.ClaimUid == claimUid))
        {
            log.LogInformation(
                "ResourceClaim {Claim}: its PassthroughClaim was withdrawn, and its devices are handed out no more",
                claim.Reference
            );
            TakeBack(claim);
        }
    }

    private async Task<IReadOnlyDictionary<string, HandoutAnswer>> EachAsync(
        IEnumerable<ClaimReference> claims,
        string what,
        Func<ClaimReference, CancellationToken, Task<HandoutAnswer>> work
    )
    {
        var answers = new ConcurrentDictionary<string, HandoutAnswer>(StringComparer.Ordinal);
        await Parallel.ForEachAsync(
            claims.DistinctBy(c => c.Uid),
            new ParallelOptions { MaxDegreeOfParallelism = AtOnce },
            async (claim, _) => answers[claim.Uid] = await OneAsync(claim, what, work)
        );
        return answers;
    }

    private async Task<HandoutAnswer> OneAsync(
        ClaimReference claim,
        string what,
        Func<ClaimReference, CancellationToken, Task<HandoutAnswer>> work
    )
    {
        if (!ClaimNames.AreSafe(claim))
            return Failed($"'{claim}' with UID '{claim.Uid}' is no ResourceClaim's namespace, name and UID");
        Work running = _underWay.GetOrAdd((what, claim), key => New(key, work));
        try
        {
            return await running.Answer.WaitAsync(options.Deadline, time);
        }
        catch (TimeoutException)
        {
            log.LogWarning(
                "ResourceClaim {Claim}: to {What} it takes longer than {Seconds} s, and goes on",
                claim,
                what,
                options.Deadline.TotalSeconds
            );
            return Failed(
                $"to {what} ResourceClaim {claim} takes longer than {options.Deadline.TotalSeconds:0} s: it goes on, and is asked for again"
            );
        }
    }

    private Work New((string, ClaimReference) key, Func<ClaimReference, CancellationToken, Task<HandoutAnswer>> work)
    {
        var end = new CancellationTokenSource();
        return new Work(new Lazy<Task<HandoutAnswer>>(() => RunAsync(key, work, end.Token)), end.CancelAsync);
    }

    private async Task<HandoutAnswer> RunAsync(
        (string What, ClaimReference Claim) key,
        Func<ClaimReference, CancellationToken, Task<HandoutAnswer>> work,
        CancellationToken ct
    )
    {
        using Activity? span = StartSpan(key.What == Prepare ? ClaimTrace.HandOut : ClaimTrace.TakeBack, key.Claim);
        HandoutAnswer answer = await AnswerAsync(key, work, ct);
        span?.SetTag(ClaimTrace.Devices, string.Join(',', prepared.Find(key.Claim.Uid)?.Devices.Select(d => d.Address) ?? []));
        if (answer.Error is { } error)
            span.Fail("NotHandedOut", error);
        return answer;
    }

    /// <summary>In the trace of the PassthroughClaim whose devices a ResourceClaim has or is to get; of another there is no trace.</summary>
    private Activity? StartSpan(string span, ClaimReference asked)
    {
        if (!ClaimTrace.IsOn)
            return null;
        string? held = prepared.Find(asked.Uid)?.ClaimUid;
        OfferedClaim? offer = node.Offers?.FirstOrDefault(o =>
            held is not null ? o.ClaimUid == held
            : o.ResourceClaimUid is { } only ? only == asked.Uid
            : (o.Namespace, o.Name) == (asked.Namespace, asked.Name)
        );
        return ClaimTrace.Start(span, held ?? offer?.ClaimUid, asked.Namespace, offer?.Name)?.SetTag(ClaimTrace.ResourceClaim, asked.Name);
    }

    private async Task<HandoutAnswer> AnswerAsync(
        (string What, ClaimReference Claim) key,
        Func<ClaimReference, CancellationToken, Task<HandoutAnswer>> work,
        CancellationToken ct
    )
    {
        try
        {
            return await Task.Run(() => work(key.Claim, ct), CancellationToken.None);
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            return Failed($"ResourceClaim {key.Claim} is not to be prepared any more");
        }
        catch (Exception e) when (e is HandoutException or HostIoException)
        {
            log.LogWarning("ResourceClaim {Claim}: {Message}", key.Claim, e.Message);
            return Failed($"ResourceClaim {key.Claim}: {e.Message.TrimEnd('.')}; it is tried again");
        }
#pragma warning disable CA1031 // each claim is answered, whatever befalls it
        catch (Exception e)
#pragma warning restore CA1031
        {
            log.LogError(e, "ResourceClaim {Claim}: {Message}", key.Claim, e.Message);
            return Failed($"ResourceClaim {key.Claim}: {e.Message.TrimEnd('.')}; it is tried again");
        }
        finally
        {
            _underWay.TryRemove(key, out _);
        }
    }

    private async Task<HandoutAnswer> PrepareAsync(ClaimReference asked, CancellationToken ct)
    {
        long began = time.GetTimestamp();
        while (true)
        {
            Task changed = _changes.Next();

            // Read anew after each wait: meanwhile it may have lost what it was allocated.
            AllocatedClaim? claim = await ReadAsync(asked, ct);
            (HandoutAnswer? answer, ClaimProblem? waits) = await TryAsync(asked, claim, ct);
            if (answer is not null)
                return answer;
            TimeSpan left = options.Patience - time.GetElapsedTime(began);
            if (left <= TimeSpan.Zero)
                return Failed(waits!.Message);
            await Task.WhenAny(changed, Task.Delay(left, time, ct));
            ct.ThrowIfCancellationRequested();
        }
    }

    /// <summary>An answer, or what is waited for.</summary>
    private async Task<(HandoutAnswer? Answer, ClaimProblem? Waits)> TryAsync(
        ClaimReference asked,
        AllocatedClaim? claim,
        CancellationToken ct
    )
    {
        if (node.Offers is not { } offers)
        {
            return (
                null,
                new ClaimProblem(
                    "NotKnown",
                    "what was given to this node is not known yet, since its PciNode was not read; it is tried again",
                    MayPass: true
                )
            );
        }

        (OfferedClaim? offer, IReadOnlyList<(AllocationResult Result, OfferedDevice Device)> devices, ClaimProblem? problem) =
            ClaimChecks.Check(asked, claim, offers, options.Driver);
        if (problem is not null)
            return (Refused(problem), null);
        foreach (PreparedClaim old in Others(asked, devices.Select(d => d.Device)))
        {
            if (await LeaveAsync(old, asked, ct) is { } stays)
                return (Refused(stays), null);
        }

        using IDisposable turn = await _turns.TakeAsync(offer!.ClaimUid, ct);
        ct.ThrowIfCancellationRequested();
        return HandOut(asked, claim!, offer.ClaimUid);
    }

    /// <summary>With the claim's turn: looks once more whether it still has its devices, and writes.</summary>
    private (HandoutAnswer? Answer, ClaimProblem? Waits) HandOut(ClaimReference asked, AllocatedClaim claim, string claimUid)
    {
        (OfferedClaim? offer, IReadOnlyList<(AllocationResult Result, OfferedDevice Device)> devices, _) = ClaimChecks.Check(
            asked,
            claim,
            node.Offers ?? [],
            options.Driver
        );
        if (offer is null || offer.ClaimUid != claimUid)
        {
            var withdrawn = new ClaimProblem("Withdrawn", $"the devices of ResourceClaim {asked} were just withdrawn; it is tried again");
            return (Refused(withdrawn), null);
        }

        var bindings = devices.Select(d => VfioBinding.Read(files, d.Device.Address)).ToList();
        if (ClaimChecks.Readiness(offer, bindings) is { } problem)
            return problem.MayPass ? (null, problem) : (Refused(problem), null);
        if (Others(asked, devices.Select(d => d.Device)).FirstOrDefault() is { } other)
            return (Refused(HasThem(other, asked)), null);
        PreparedClaim? before = prepared.Find(asked.Uid);
        PreparedClaim now = new()
        {
            FormatVersion = PreparedClaim.CurrentFormat,
            BootId = HostFacts.BootId(files),
            Uid = asked.Uid,
            Namespace = asked.Namespace,
            Name = asked.Name,
            PodClaimName = claim.PodClaimName,
            ClaimUid = claimUid,
            Devices =
            [
                .. devices
                    .Zip(bindings)
                    .Select(d => new PreparedDevice
                    {
                        Request = d.First.Result.Request,
                        Pool = d.First.Result.Pool,
                        Device = d.First.Result.Device,
                        Address = d.First.Device.Address.ToString(),
                        Nodes = d.Second.Nodes,
                        NumaNode = d.Second.NumaNode,
                        PcieRoot = d.Second.PcieRoot,
                    }),
            ],
        };

        // What other devices left is in files of other names.
        if (before is not null && !before.Equals(now))
            prepared.Remove(before);
        prepared.Save(now);
        if (before is null)
        {
            log.LogInformation("ResourceClaim {Claim}: {Devices} handed out", asked, string.Join(", ", now.Devices.Select(d => d.Address)));
            Changed?.Invoke();
        }

        return (
            new HandoutAnswer([.. now.Devices.Select(d => new HandedDevice(d.Request, d.Pool, d.Device, handout.IdsOf(now, d)))], null),
            null
        );
    }

    private async Task<HandoutAnswer> UnprepareAsync(ClaimReference asked, CancellationToken ct)
    {
        // What the kubelet has given up waiting for must not be handed out after it.
        if (_underWay.TryGetValue((Prepare, asked), out Work? preparing))
            await preparing.EndAsync();
        while (prepared.Find(asked.Uid) is { } claim)
        {
            using IDisposable turn = await _turns.TakeAsync(claim.ClaimUid, ct);
            if (!ReferenceEquals(prepared.Find(asked.Uid), claim))
                continue;
            log.LogInformation("ResourceClaim {Claim}: its devices are handed out no more", asked);
            TakeBack(claim);
        }

        return new HandoutAnswer([], null);
    }

    /// <summary>Others that have some of the devices, or the name: there can be one of each only.</summary>
    private IEnumerable<PreparedClaim> Others(ClaimReference asked, IEnumerable<OfferedDevice> devices)
    {
        var addresses = devices.Select(d => d.Address.ToString()).ToHashSet(StringComparer.Ordinal);
        return prepared.All.Where(c =>
            c.Uid != asked.Uid
            && ((c.Namespace, c.Name) == (asked.Namespace, asked.Name) || c.Devices.Any(d => addresses.Contains(d.Address)))
        );
    }

    /// <summary>Takes back what another ResourceClaim left behind that is gone or not allocated any more; why not, when it is.</summary>
    private async Task<ClaimProblem?> LeaveAsync(PreparedClaim old, ClaimReference asked, CancellationToken ct)
    {
        if (await ReadAsync(old.Reference, ct) is { IsAllocated: true } still && still.Uid == old.Uid)
            return HasThem(old, asked);
        using IDisposable turn = await _turns.TakeAsync(old.ClaimUid, ct);
        if (prepared.Find(old.Uid) is { } claim)
        {
            log.LogInformation("ResourceClaim {Claim}: is gone or not allocated any more, and what it left is taken back", claim.Reference);
            TakeBack(claim);
        }

        return null;
    }

    private static ClaimProblem HasThem(PreparedClaim other, ClaimReference asked) =>
        new(
            "HandedOut",
            $"ResourceClaim {other.Reference} ({other.Uid}) still has devices that {asked} was allocated: they are handed out again when its pods have ended"
        );

    private void TakeBack(PreparedClaim claim)
    {
        prepared.Remove(claim);
        Changed?.Invoke();
    }

    private async Task<AllocatedClaim?> ReadAsync(ClaimReference claim, CancellationToken ct)
    {
        using var limit = new CancellationTokenSource(options.Patience, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, ct);
        try
        {
            return await node.ReadClaimAsync(claim.Namespace, claim.Name, either.Token);
        }
        catch (Exception e) when (!ct.IsCancellationRequested)
        {
            string why =
                e is OperationCanceledException ? $"it did not answer within {options.Patience.TotalSeconds:0} s" : e.Message.TrimEnd('.');
            throw new HandoutException($"it can't be read from the API server: {why}");
        }
    }

    private HandoutAnswer Refused(ClaimProblem problem)
    {
        if (problem.IsForbidden)
            node.Report(new HandoutRefusal(problem.Reason, problem.Message));
        log.LogWarning("{Reason}: {Message}", problem.Reason, problem.Message);
        return Failed(problem.Message);
    }

    private static HandoutAnswer Failed(string message) => new([], message);

    /// <summary>What is being done for a claim: begun when its answer is first asked for, once.</summary>
    private sealed record Work(Lazy<Task<HandoutAnswer>> Begun, Func<Task> Cancel)
    {
        public Task<HandoutAnswer> Answer => Begun.Value;

        /// <summary>It is not wanted any more; returns when it has ended, whatever came of it.</summary>
        public async Task EndAsync()
        {
            await Cancel();
            await Answer;
        }
    }
}

using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubelet;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>
/// Holds one host to its PciNode: takes up its assignments, gives back what is no longer assigned, makes virtual
/// functions, and says what it sees. Level-triggered: every round compares what is wanted, what the journal holds and
/// what the host shows, and nothing is kept that could not be worked out again after <c>kill -9</c>.
/// </summary>
[Kubernetes.Schema.EntityRbac(PciOperatorApi.Group, "pcinodes", "list,watch")]
[Kubernetes.Schema.EntityRbac(PciOperatorApi.Group, "pcinodes/status", "patch")]
[Kubernetes.Schema.EntityRbac("events.k8s.io", "events", "create,patch")]
[Kubernetes.Schema.EntityRbac("resource.k8s.io", "resourceclaims", "get")]
public sealed class NodeAgent : IAsyncDisposable
{
    private readonly NodeAgentOptions _options;
    private readonly PassthroughHost _host;
    private readonly IUeventSource _uevents;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly EventRecorder _events;
    private readonly WatchCache<PciNode> _cache;
    private readonly NodeStatusWriter _status;
    private readonly HostMetrics _shown;
    private readonly VfTrafficMetrics _traffic;
    private readonly NetDeviceNames _names;
    private readonly FreeRequests _freeing;
    private readonly KubeletPlugin? _kubelet;

    // Beyond it a look at everything is as quick.
    private const int MostHeard = 4096;

    // One slot: waking twice before the next round is waking once.
    private readonly Channel<bool> _wake = Channel.CreateBounded<bool>(
        new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite }
    );
    private readonly VfProvisioner _vfs;
    private readonly ClaimWorker _claims;
    private volatile bool _rescan = true;

    // Guards what has been heard, and nothing is called under it. All else is a round's alone, and there is one round at a time.
    private readonly Lock _lock = new();
    private List<Uevent> _heard = [];
    private HostSnapshot? _snapshot;
    private IReadOnlyList<Holding> _heldBeforeScan = [];
    private Dictionary<PciAddress, HostFunction> _seen = [];
    private string? _notReady = "the first look at the host is not finished";

    /// <summary>An agent over a host.</summary>
    public NodeAgent(
        NodeAgentOptions options,
        IEntityClient client,
        PassthroughHost host,
        IHostFileSystem files,
        string stateDirectory,
        IUeventSource uevents,
        TimeProvider time,
        ILogger log,
        CollectorRegistry metrics,
        EventRecorder events
    )
    {
        (_options, _host, _uevents, _time, _log, _events) = (options, host, uevents, time, log, events);
        _cache = new WatchCache<PciNode>(
            client,
            options: new ListOptions { FieldSelector = $"metadata.name={options.NodeName}" },
            time: time,
            logger: log,
            metrics: metrics
        );
        _status = new NodeStatusWriter(client, options.StatusPatience, time, metrics);
        _shown = new HostMetrics(host, metrics);
        _traffic = new VfTrafficMetrics(new VfTrafficReader(files, time), time, log, metrics);
        _names = new NetDeviceNames(files, stateDirectory, log);
        _freeing = new FreeRequests(host, files, stateDirectory, log);
        _vfs = new VfProvisioner(host, time, log, options.Retry, LookAgain);
        _claims = new ClaimWorker(
            host,
            options.Retry,
            time,
            log,
            metrics,
            events,
            LookAgain,
            (uid, ct) => _kubelet?.WithdrawAsync(uid, ct) ?? Task.CompletedTask
        );
        _cache.OnChange(_ => Wake());
        _host.Changed += () => LookAgain(changed: true);
        if (options.Kubelet is null)
            return;
        var offers = new KubeletNode(options, client, () => _cache.Get(options.NodeName), host, _claims, events, metrics);
        _kubelet = new KubeletPlugin(options.Kubelet, offers, files, time, log);
        _kubelet.Changed += Wake;
        _cache.OnChange(_ => _kubelet.NodeChanged());
        _host.Changed += _kubelet.NodeChanged;
    }

    /// <summary>Why the agent is not ready, or null: for <c>/readyz</c>.</summary>
    public string? NotReady() => Volatile.Read(ref _notReady) ?? _cache.WhyOld();

    /// <summary>Why only a restart helps, or null: for <c>/healthz</c>. A server that is away is no reason.</summary>
    public string? WhyStuck() => _cache.WhyStuck();

    /// <summary>Runs until cancelled. What is under way on the host then is finished or undone by the next start.</summary>
    public async Task RunAsync(CancellationToken ct)
    {
        await RecoverAsync(ct);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(ct);
        Task[] parts =
        [
            _cache.RunAsync(stop.Token),
            ListenAsync(stop.Token),
            TickAsync(stop.Token),
            RoundsAsync(stop.Token),
            _kubelet?.RunAsync(stop.Token) ?? Task.Delay(Timeout.Infinite, stop.Token),
        ];
        try
        {
            await await Task.WhenAny(parts);
        }
        finally
        {
            await stop.CancelAsync();
            await Task.WhenAll(
                parts.Select(p =>
                    p.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default)
                )
            );
        }
    }

    /// <summary>Loads the journal. While another agent works on this host, this one says so and does nothing.</summary>
    private async Task RecoverAsync(CancellationToken ct)
    {
        for (string? said = null; ; )
        {
            try
            {
                await _host.RecoverAsync(ct);
                return;
            }
            catch (HostIoException error) when (_host.IsRecovered)
            {
                _log.LogWarning("The journal is loaded, and left as it is: {Message}", error.Message);
                return;
            }
            catch (StateFolderInUseException other)
            {
                if (said != other.Message)
                    _log.LogError("{Message}", other.Message);
                Volatile.Write(ref _notReady, said = other.Message);
                await Task.Delay(_options.Retry, _time, ct);
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_kubelet is not null)
            await _kubelet.DisposeAsync();
        await _cache.DisposeAsync();
    }

    /// <summary>Asks for another round: of the whole host when that has changed.</summary>
    private void LookAgain(bool changed)
    {
        // Not |=, which could undo what another thread sets between its reading and its writing.
        if (changed)
            _rescan = true;
        Wake();
    }

    private void Wake() => _wake.Writer.TryWrite(true);

    private async Task WakeAfterAsync(TimeSpan delay, CancellationToken ct)
    {
        await Task.Delay(delay, _time, ct);
        Wake();
    }

    private async Task ListenAsync(CancellationToken ct)
    {
        await foreach (Uevent uevent in _uevents.ReadAsync(ct))
        {
            if (
                !uevent.Overrun
                && uevent.Subsystem is not ("pci" or "net" or "block" or "nvme" or "vfio" or "vfio-dev" or "drm" or "mdev" or "vdpa")
            )
            {
                continue;
            }

            bool first;
            lock (_lock)
            {
                first = _heard.Count == 0;
                if (_heard.Count < MostHeard)
                    _heard.Add(uevent);
                else
                    _heard[0] = Uevent.Lost;
            }

            // The others come along with the first.
            if (first)
                _ = WakeAfterAsync(_options.Debounce, ct);
        }
    }

    private async Task TickAsync(CancellationToken ct)
    {
        using var timer = new PeriodicTimer(_options.Resync, _time);
        while (await timer.WaitForNextTickAsync(ct))
            LookAgain(changed: true);
    }

    private async Task RoundsAsync(CancellationToken ct)
    {
        await _cache.WaitForSyncAsync(ct);
        while (true)
        {
            try
            {
                await RoundAsync(ct);
            }
            catch (Exception error) when (error is not OperationCanceledException)
            {
                if (error is ApiException { IsConflict: true })
                    _log.LogDebug("the PciNode changed meanwhile: {Message}", error.Message);
                else
                    _log.LogWarning(error, "a round failed and is tried again: {Message}", error.Cause());
                _ = WakeAfterAsync(_options.Retry, ct);
            }

            await _wake.Reader.ReadAsync(ct);
        }
    }

    /// <summary>One look at everything.</summary>
    private async Task RoundAsync(CancellationToken ct)
    {
        if (_cache.Get(_options.NodeName) is not { } node)
        {
            // Whatever is held stays held: a PciNode that is gone for a moment must not take a device from under a VM.
            Volatile.Write(ref _notReady, $"there is no PciNode {_options.NodeName} yet: the controller makes it for every Node");
            return;
        }

        if (_options.Installation?.WhyNotAgentOf(node) is { } whose)
        {
            if (Volatile.Read(ref _notReady) != whose)
                _log.LogError("{Whose}", whose);
            Volatile.Write(ref _notReady, whose);
            return;
        }

        var rules = CompiledRules.Of(node.Spec.Rules);
        _host.GuardOverrides = HostMapping.Overrides(node.Spec.Rules, _options.NodeName);
        if (Free(node))
            _rescan = true;
        Look();
        var wanted = (node.Spec.Assignments ?? []).DistinctBy(a => a.ClaimUid).ToDictionary(a => a.ClaimUid);

        // VFs first: after a boot there are none, and claims wait for theirs.
        _vfs.Look(node, _snapshot!, rules, ct);
        LookForUnseen(wanted);
        _claims.Start(new AgentRound(node, rules, wanted, _snapshot!, _seen), _vfs.MayBringVfs, ct);
        await TakeBackAsync(node, wanted, ct);
        await PublishAsync(node, rules, wanted, ct);
        Volatile.Write(ref _notReady, null);
    }

    /// <summary>
    /// What is to be taken is checked against the rules as the host shows it: a device that came since the last look is looked at first.
    /// </summary>
    private void LookForUnseen(Dictionary<string, PciAssignment> wanted)
    {
        if (_vfs.MayBringVfs || !_claims.WaitsForUnseen(wanted, _seen))
            return;
        _rescan = true;
        Look();
    }

    /// <summary>Looks at the host, if something may have changed: at what uevents name, or at everything.</summary>
    private void Look()
    {
        List<Uevent> heard;
        lock (_lock)
            (heard, _heard) = (_heard, []);
        bool everything = _rescan || _snapshot is null;
        if (!everything && heard.Count == 0)
            return;
        if (everything)
            _rescan = false;
        _heldBeforeScan = _host.Holdings;
        try
        {
            // What is remembered of cards (serial numbers) may be another card's when one came or went.
            bool fresh = heard.Any(u => u.Overrun || u is { Subsystem: "pci", Action: "add" or "remove" });
            _snapshot = _names.Restore(everything ? _host.Scan(fresh) : _host.Scan(heard));
            _seen = _snapshot.Functions.ToDictionary(f => f.Address);
        }
        catch
        {
            lock (_lock)
                _heard.InsertRange(0, heard);
            _rescan = true;
            throw;
        }
    }

    /// <summary>Takes back what an earlier agent handed out, and could not take back, of claims that are no longer here.</summary>
    private async Task TakeBackAsync(PciNode node, Dictionary<string, PciAssignment> wanted, CancellationToken ct)
    {
        // A PciNode that was made anew says nothing yet.
        if (_kubelet is null || node.Spec.Settling == true)
            return;
        try
        {
            await _kubelet.WithdrawAllButAsync(_host.Holdings.Select(h => h.ClaimUid).Concat(wanted.Keys).ToHashSet(), ct);
        }
        catch (HostIoException e)
        {
            _log.LogWarning("What was handed out of claims that are gone can't be taken back, which is tried again: {Message}", e.Message);
            _ = WakeAfterAsync(_options.Retry, ct);
        }
    }

    /// <summary>
    /// Frees the used-once devices that an administrator names on the PciNode. True when the host has to be looked at again.
    /// </summary>
    private bool Free(PciNode node)
    {
        IReadOnlyList<(PciAddress Address, bool Freed)> answers = _freeing.Answer(node);
        foreach ((PciAddress address, bool freed) in answers)
        {
            if (freed)
            {
                _events.Normal(node, "Freed", $"{address} was used once, and an administrator has freed it: it is offered again", "Free");
            }
            else
            {
                _events.Warning(
                    node,
                    "NothingToFree",
                    $"{address} is named in {PciOperatorApi.FreeAnnotation}, and is not withheld as used once, or a claim has it",
                    "Free"
                );
            }
        }

        return answers.Any(a => a.Freed);
    }

    private async Task PublishAsync(PciNode node, CompiledRules rules, Dictionary<string, PciAssignment> wanted, CancellationToken ct)
    {
        IReadOnlyList<Holding> known = _claims.Known(wanted, _heldBeforeScan);
        PciNodeStatus status = NodeStatusBuilder.Build(
            node,
            _snapshot!,
            rules,
            wanted,
            known,
            _vfs.Notes,
            _options.Version,
            _time.GetUtcNow(),
            _kubelet is null ? null : new KubeletView(_kubelet.Status, _kubelet.Delivered, _kubelet.Resources)
        );
        _shown.Show(status);
        _traffic.Show(status);
        (PciNode? written, TimeSpan? later) = await _status.WriteAsync(node, status, ct);
        if (written is not null)
            _cache.Observe(written);
        if (later is { } wait)
            _ = WakeAfterAsync(wait, ct);
    }
}

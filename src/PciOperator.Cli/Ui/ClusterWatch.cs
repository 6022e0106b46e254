using System.Collections.Concurrent;
using System.Threading.Channels;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Ask;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Cli.See;
using PciOperator.Kubernetes;
using PciOperator.Placement;

namespace PciOperator.Cli.Ui;

/// <summary>The cluster as the caller may see it, kept up to date by watches, as items of a <see cref="PageFeed"/>.</summary>
internal sealed class ClusterWatch : IAsyncDisposable
{
    private const string Node = "node";
    private const string Claim = "claim";
    private const string Alias = "alias";
    private const string Status = "status";

    private static readonly TimeSpan BetweenProbes = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan ProbeTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan BetweenCounts = TimeSpan.FromSeconds(1);

    // Counting what is left takes a twentieth of a processor at most.
    private const int RestPerCount = 20;

    private readonly Session _session;
    private readonly TimeProvider _time;
    private readonly string? _namespace;
    private readonly string? _namespaceReason;
    private readonly WatchCache<PciNode> _pciNodes;
    private readonly WatchCache<PassthroughClaim> _claims;
    private readonly WatchCache<PciAlias> _aliases;
    private readonly WatchCache<V1Node> _nodes;
    private readonly WatchCache<V1Pod> _agents;
    private readonly ConcurrentDictionary<(string Kind, string? Namespace, string Name), byte> _dirty = [];
    private readonly Channel<bool> _somethingChanged = Signal();
    private readonly Channel<bool> _capacityChanged = Signal();
    private readonly SemaphoreSlim _explaining = new(1);
    private readonly CancellationTokenSource _stop;
    private volatile IReadOnlyDictionary<string, CapacityView> _capacity = new Dictionary<string, CapacityView>();
    private DateTimeOffset? _lostSince;
    private DateTimeOffset _answeredAt;
    private string? _lostWhy;

    private ClusterWatch(Session session, string? ns, string? namespaceReason, string agentsNamespace)
    {
        (_session, _time, _namespace, _namespaceReason) = (session, session.Io.Time, ns, namespaceReason);
        Feed = new PageFeed(_time);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(session.Ct);
        _pciNodes = new(session.Client, time: _time);
        _claims = new(session.Client, ns, time: _time);
        _aliases = new(session.Client, time: _time);
        _nodes = new(session.Client, time: _time);
        _agents = new(session.Client, agentsNamespace, new ListOptions { LabelSelector = Installation.AgentSelector }, _time);
        _answeredAt = _time.GetUtcNow();
        Listen(_pciNodes, Node, counts: true);
        Listen(_claims, Claim, counts: false);
        Listen(_aliases, Alias, counts: true);
        Listen(_nodes, Node, counts: true);
        _agents.OnChange(_ => _capacityChanged.Writer.TryWrite(true));
    }

    /// <summary>What pages are told.</summary>
    public PageFeed Feed { get; }

    /// <summary>Ends when it is disposed of, or with a defect.</summary>
    public Task Running { get; private set; } = Task.CompletedTask;

    /// <summary>Finds out what the caller may see, and begins to watch it.</summary>
    /// <exception cref="CliException">The cluster doesn't have the resources.</exception>
    /// <exception cref="ApiException">The caller may see neither devices nor claims.</exception>
    /// <exception cref="HttpRequestException">There is no API server.</exception>
    public static async Task<ClusterWatch> StartAsync(Session session)
    {
        (IReadOnlyList<PciNode> some, ApiException? noNodes) = await FirstAsync<PciNode>(session, null);
        string? ns = session.GivenNamespace;
        (_, ApiException? noClaims) = await FirstAsync<PassthroughClaim>(session, ns);
        string? reason = null;
        if (noClaims is not null && ns is null)
        {
            // Most tenants may list the claims of their own namespace alone.
            ns = session.Namespace;
            reason = noClaims.Message;
            (_, noClaims) = await FirstAsync<PassthroughClaim>(session, ns);
        }

        if (noNodes is not null && noClaims is not null)
            throw noClaims;
        var watch = new ClusterWatch(session, ns, reason, ClusterSnapshot.AgentsNamespaceOf(some));
        watch.TellStatus();
        watch.Running = watch.RunAsync();
        return watch;
    }

    /// <summary>Why a claim is where it is, or waits: as <c>kubectl pci explain</c> says it. One at a time.</summary>
    public async Task<ExplanationCard> ExplainAsync(string ns, string name, CancellationToken ct)
    {
        if (_claims.Get(name, ns) is not { } claim)
            return new ExplanationCard(null, $"There is no claim {ns}/{name} any more.");
        await _explaining.WaitAsync(ct);
        try
        {
            return WhyNotCounted() is { } why
                ? new ExplanationCard(null, why)
                : new ExplanationCard(await AskCommands.ExplainAsync(_session, claim, () => Task.FromResult(Snapshot())), null);
        }
        catch (Exception error) when (Errors.Known(error) is { } known)
        {
            return new ExplanationCard(null, known.Message);
        }
        finally
        {
            _explaining.Release();
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        foreach (IAsyncDisposable cache in (IAsyncDisposable[])[_pciNodes, _claims, _aliases, _nodes, _agents])
            await cache.DisposeAsync();
        _stop.Dispose();
        _explaining.Dispose();
    }

    /// <summary>Whether a kind can be listed: its first object, or the server's refusal.</summary>
    private static async Task<(IReadOnlyList<T> First, ApiException? Refused)> FirstAsync<T>(Session session, string? ns)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return ([.. (await session.Client.ListPageAsync<T>(ns, new ListOptions { Limit = 1 }, session.Ct)).Items], null);
        }
        catch (ApiException missing) when (missing.IsNotFound)
        {
            throw ClusterReader.NotInstalled();
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            return ([], forbidden);
        }
    }

    private static Channel<bool> Signal() =>
        Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });

    private void Listen<T>(WatchCache<T> cache, string kind, bool counts)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        cache.OnChange(change =>
        {
            V1ObjectMeta metadata = (change.New ?? change.Old)!.Metadata;
            _dirty[(kind, metadata.NamespaceProperty, metadata.Name)] = 0;
            _somethingChanged.Writer.TryWrite(true);
            if (counts)
                _capacityChanged.Writer.TryWrite(true);
        });

    private async Task RunAsync()
    {
        CancellationToken ct = _stop.Token;
        Task[] all =
        [
            _pciNodes.RunAsync(ct),
            _claims.RunAsync(ct),
            _aliases.RunAsync(ct),
            _nodes.RunAsync(ct),
            _agents.RunAsync(ct),
            Task.Run(() => TellAsync(ct), CancellationToken.None),
            Task.Run(() => CountAsync(ct), CancellationToken.None),
            Task.Run(() => ProbeAsync(ct), CancellationToken.None),
        ];
        try
        {
            await (await Task.WhenAny(all));
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            // As asked.
        }
    }

    private async Task TellAsync(CancellationToken ct)
    {
        while (true)
        {
            await _somethingChanged.Reader.ReadAsync(ct);
            foreach ((string Kind, string? Namespace, string Name) key in _dirty.Keys)
            {
                _dirty.TryRemove(key, out _);
                Tell(key.Kind, key.Namespace, key.Name);
            }

            TellStatus();
            await Task.Delay(PageFeed.Pause, _time, ct);
        }
    }

    private void Tell(string kind, string? ns, string name)
    {
        switch (kind)
        {
            case Node when _pciNodes.Get(name) is { } node:
                Feed.Set(kind, name, CardOf(node), PageJsonContext.Default.NodeCard);
                break;
            case Claim when _claims.Get(name, ns) is { } claim:
                Feed.Set(kind, $"{ns}/{name}", ClaimView.Of(claim), PageJsonContext.Default.ClaimView);
                break;
            case Alias when _aliases.Get(name) is { } alias:
                Tell(alias);
                break;
            default:
                Feed.Remove(kind, kind == Claim ? $"{ns}/{name}" : name);
                break;
        }
    }

    private void Tell(PciAlias alias)
    {
        string name = alias.Metadata.Name;
        var card = new AliasCard(name, AliasUse.Usable(alias) is not null, _capacity.GetValueOrDefault(name));
        Feed.Set(Alias, name, card, PageJsonContext.Default.AliasCard);
    }

    private NodeCard CardOf(PciNode reported)
    {
        PciNode node = Reports.Readable(reported);
        IReadOnlyList<DeviceView> devices = DeviceView.Of([node], new DeviceNames(_session.Io, [node]));
        List<string> problems =
        [
            .. (node.Status?.Conditions ?? [])
                .Where(c => c.Type is Conditions.DriftDetected or Conditions.InventoryTruncated ? c.Status == "True" : c.Status != "True")
                // Not every cluster delivers by DRA: what can't be placed for it, claims say.
                .Where(c => c.Type != Conditions.KubeletRegistered)
                .Select(c => $"{c.Type}: {(string.IsNullOrEmpty(c.Message) ? c.Reason : c.Message)}"),
        ];
        if (node.Status is null)
            problems.Add("Its agent has said nothing yet.");
        if (Reports.CountUnreadable(reported) is > 0 and var count)
            problems.Add($"Devices that can't be meant, and are left out: {count}.");
        return new NodeCard
        {
            Node = NodeView.Of(node, devices),
            Unusable = _nodes.Get(node.Metadata.Name) is { } known ? NodeFilters.Unusable(known)?.Of(1)[2..] : null,
            Problems = problems,
            NumaNodes = [.. (node.Status?.NumaNodes ?? []).Select(n => new NumaCard(n.Id, n.Socket))],
            Devices = [.. devices.Select(d => d with { Name = DeviceNames.Short(d.Name) })],
            Groups = [.. GroupView.Of(devices).Where(g => g.State == "not offered").Select(g => new GroupCard(g.Group, g.Reason))],
        };
    }

    private async Task CountAsync(CancellationToken ct)
    {
        while (true)
        {
            await _capacityChanged.Reader.ReadAsync(ct);
            // What comes together is counted once.
            await Task.Delay(PageFeed.Pause, _time, ct);
            long began = _time.GetTimestamp();
            _capacity = WhyNotCounted() is null
                ? AskCommands.CapacityOf(Snapshot()).ToDictionary(c => c.Alias)
                : new Dictionary<string, CapacityView>();
            foreach (PciAlias alias in _aliases.List())
                Tell(alias);
            TimeSpan rest = _time.GetElapsedTime(began) * RestPerCount;
            await Task.Delay(rest > BetweenCounts ? rest : BetweenCounts, _time, ct);
        }
    }

    /// <summary>Why what the cluster could serve can't be worked out; null: it can.</summary>
    private string? WhyNotCounted() =>
        Sources()
            .Where(s => s.Kind is "pcinodes" or "nodes" or "pcialiases" && s.State is "forbidden" or "reading")
            .Select(s => s.State == "reading" ? $"The list of {s.Kind} is not in yet." : $"It takes {s.Kind}, which you may not list.")
            .FirstOrDefault();

    private ClusterSnapshot Snapshot() =>
        ClusterSnapshot.Of(
            _time.GetUtcNow(),
            [.. _nodes.List().OrderBy(n => n.Metadata.Name, StringComparer.Ordinal)],
            [.. _pciNodes.List().Select(Reports.Readable).OrderBy(n => n.Metadata.Name, StringComparer.Ordinal)],
            [.. _aliases.List().OrderBy(a => a.Metadata.Name, StringComparer.Ordinal)],
            [.. _claims.List()],
            _agents.HasSynced ? ClusterSnapshot.ReadyOf(_agents.List()) : null
        );

    /// <summary>Asks the API server whether it is there while pages are connected: a watch alone may be silent for minutes.</summary>
    private async Task ProbeAsync(CancellationToken ct)
    {
        while (true)
        {
            await Task.Delay(BetweenProbes, _time, ct);
            if (Feed.Readers > 0)
                await AskAsync(ct);
            TellStatus();
        }
    }

    private async Task AskAsync(CancellationToken ct)
    {
        using var late = new CancellationTokenSource(ProbeTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, late.Token);
        try
        {
            (await _session.Client.GetRawAsync("/version", either.Token)).Dispose();
            Answered();
        }
        catch (ApiException refused) when (!refused.IsUnauthorized)
        {
            // An answer, too.
            Answered();
        }
        catch (Exception e) when (e is HttpRequestException or ApiException or OperationCanceledException && !ct.IsCancellationRequested)
        {
            _lostSince ??= _answeredAt;
            _lostWhy = e is OperationCanceledException ? $"no answer within {ProbeTimeout.TotalSeconds:0} s" : e.Cause();
        }

        void Answered()
        {
            _answeredAt = _time.GetUtcNow();
            (_lostSince, _lostWhy) = (null, null);
        }
    }

    private void TellStatus() =>
        Feed.Set(
            Status,
            "",
            new StatusCard
            {
                Server = _session.Server,
                Namespace = _namespace,
                NamespaceReason = _namespaceReason,
                LostSince = _lostSince,
                Message = _lostWhy is { } why ? Plain.Text(why) : null,
                Now = _time.GetUtcNow(),
                Sources = Sources(),
            },
            PageJsonContext.Default.StatusCard
        );

    private IReadOnlyList<SourceCard> Sources() =>
        [
            Source("pcinodes", _pciNodes),
            Source("passthroughclaims", _claims),
            Source("pcialiases", _aliases),
            Source("nodes", _nodes),
            Source("pods", _agents),
        ];

    private static SourceCard Source<T>(string kind, WatchCache<T> cache)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        cache.LastFailure switch
        {
            ApiException { IsForbidden: true } forbidden => new(kind, "forbidden", Plain.Text(forbidden.Message)),
            { } failure => new(kind, cache.HasSynced ? "behind" : "reading", Plain.Text(failure.Cause())),
            null when !cache.HasSynced => new(kind, "reading", null),
            null when cache.Unreadable is { Count: > 0 } unreadable => new(
                kind,
                "live",
                $"Left out, since they can't be read: {string.Join(", ", unreadable.Select(u => Plain.Text(u.Key.ToString())).Take(5))}"
            ),
            _ => new(kind, "live", null),
        };
}

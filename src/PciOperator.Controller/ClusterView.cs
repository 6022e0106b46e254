using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes.Models;

namespace PciOperator.Controller;

/// <summary>
/// What the whole cluster offers at this moment: the allocator's snapshot, kept up to date one node at a time, with the
/// decisions that are on their way to the API server counted in. Thread-safe.
/// </summary>
internal sealed class ClusterView
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, NodeFacts> _nodes = [];
    private readonly Dictionary<string, AliasDefinition> _aliases = [];
    private readonly SortedSet<(string ClaimUid, string Node)> _assigned = [];
    private readonly HashSet<string> _assumed = [];
    private ClusterInventory _inventory = ClusterInventory.Empty;

    /// <summary>Something became free or possible that was not before, or is not for another reason: claims that wait may be served, or say that reason.</summary>
    public event Action? OffersChanged;

    private sealed class NodeFacts
    {
        public V1Node? Node;
        public PciNode? PciNode;
        public bool AgentReady;
        public Dictionary<string, IReadOnlyList<AllocatedDevice>> Assumed = [];
        public IReadOnlyDictionary<int, int?> Sockets = new Dictionary<int, int?>();
        public HashSet<PciAddress> Free = [];
        public HashSet<(PciAddress, string?)> Kept = [];
        public MatchedDevices Matched = MatchedDevices.None;
    }

    /// <summary>A Node changed or is gone (null).</summary>
    public void SetNode(string name, V1Node? node)
    {
        bool changed;
        lock (_lock)
        {
            var facts = Facts(name);
            changed = Fingerprint(facts.Node) != Fingerprint(node);
            facts.Node = node;
            Rebuild(name, facts);
        }

        if (changed)
            OffersChanged?.Invoke();
    }

    /// <summary>A PciNode changed or is gone (null). What is older than what is known already changes nothing.</summary>
    public void SetPciNode(string name, PciNode? node)
    {
        bool more;
        lock (_lock)
        {
            var facts = Facts(name);
            if (node is not null && facts.PciNode is { } known && known.Metadata.Uid == node.Metadata.Uid && Version(node) < Version(known))
                return;
            foreach (var assignment in facts.PciNode?.Spec.Assignments ?? [])
                _assigned.Remove((assignment.ClaimUid, name));
            foreach (var assignment in node?.Spec.Assignments ?? [])
                _assigned.Add((assignment.ClaimUid, name));
            facts.PciNode = node;
            more = Rebuild(name, facts);
        }

        if (more)
            OffersChanged?.Invoke();

        static long Version(PciNode n) => long.TryParse(n.Metadata.ResourceVersion, out var version) ? version : 0;
    }

    /// <summary>A node's agent became ready, or stopped being so.</summary>
    public void SetAgentReady(string name, bool ready)
    {
        lock (_lock)
        {
            var facts = Facts(name);
            if (facts.AgentReady == ready)
                return;
            facts.AgentReady = ready;
        }

        OffersChanged?.Invoke();
    }

    /// <summary>An alias changed, or is gone or unusable (null).</summary>
    public void SetAlias(string name, AliasDefinition? alias)
    {
        lock (_lock)
        {
            if (alias is null)
                _aliases.Remove(name);
            else
                _aliases[name] = alias;
        }

        OffersChanged?.Invoke();
    }

    /// <summary>The usable alias of a name, or null.</summary>
    public AliasDefinition? Alias(string name)
    {
        lock (_lock)
            return _aliases.GetValueOrDefault(name);
    }

    /// <summary>Whether the node's agent is ready.</summary>
    public bool IsAgentReady(string name)
    {
        lock (_lock)
            return _nodes.GetValueOrDefault(name)?.AgentReady == true;
    }

    /// <summary>Whether the node's devices can no longer be asked after: no such Node, or an administrator says it is out of service.</summary>
    public bool IsGone(string name)
    {
        lock (_lock)
            return _nodes.GetValueOrDefault(name)?.Node is not { } node || IsOutOfService(node);
    }

    /// <summary>
    /// Places claims that belong together on one node, and counts their devices as taken until <see cref="Settle"/>.
    /// </summary>
    /// <param name="claims">One claim, or several that must be on the same node.</param>
    /// <param name="onlyNode">The node where others of theirs are already; null: any.</param>
    public GroupDecision Place(IReadOnlyList<ClaimToPlace> claims, string? onlyNode)
    {
        lock (_lock)
        {
            // Another worker, or this one a moment ago: its write, or the news of it, is on the way.
            if (claims.Any(c => IsPlaced(c.Requirements.ClaimUid)))
                return GroupDecision.Busy;

            var first = claims[0];
            RefusalReason? Filter(string name) =>
                claims.Select(c => NodeFilters.Check(c.Claim, _nodes[name].Node, _nodes[name].PciNode, _nodes[name].AgentReady, onlyNode, name)).FirstOrDefault(r => r is not null);

            if (claims.Count == 1)
            {
                var decision = Allocator.Decide(_inventory, first.Requirements, Filter);
                if (decision.Allocation is null)
                    return new GroupDecision(null, [], decision.Summary + Hindrances.Of(_inventory.Nodes, Filter, first));
                Assume(decision.Allocation.Node, first.Requirements.ClaimUid, decision.Allocation.Devices);
                return new GroupDecision(decision.Allocation.Node, [decision.Allocation], decision.Summary);
            }

            return PlaceTogether(claims, Filter);
        }
    }

    /// <summary>Several claims on one node: each node is tried with one claim after the other.</summary>
    private GroupDecision PlaceTogether(IReadOnlyList<ClaimToPlace> claims, Func<string, RefusalReason?> filter)
    {
        var refusals = new Dictionary<RefusalReason, int>();
        foreach (var node in _inventory.Nodes)
        {
            var reason = filter(node.Name);
            var current = node;
            var allocations = new List<NodeAllocation>();
            foreach (var claim in claims)
            {
                if (reason is not null)
                    break;
                switch (Allocator.TryNode(current, claim.Requirements))
                {
                    case NodeVerdict.Served(var allocation):
                        allocations.Add(allocation);
                        current = Build(node.Name, _nodes[node.Name], claims.Zip(allocations).ToDictionary(p => p.First.Requirements.ClaimUid, p => p.Second.Devices));
                        break;
                    case NodeVerdict.Refused(var why):
                        reason = why;
                        break;
                    case NodeVerdict.TooComplex(var why):
                        reason = why;
                        break;
                }
            }

            if (reason is null)
            {
                foreach (var (claim, allocation) in claims.Zip(allocations))
                    Assume(node.Name, claim.Requirements.ClaimUid, allocation.Devices);
                return new GroupDecision(node.Name, allocations, $"Placed together on node {node.Name}.");
            }

            refusals[reason] = refusals.GetValueOrDefault(reason) + 1;
        }

        var counts = string.Join(", ", refusals.OrderByDescending(p => p.Value).ThenBy(p => p.Key.Text, StringComparer.Ordinal).Select(p => p.Key.Of(p.Value)));
        return new GroupDecision(null, [], $"0/{_inventory.Count} nodes can serve it together with {string.Join(", ", claims.Skip(1).Select(c => c.Claim.Metadata.Name))}{(counts.Length > 0 ? ": " + counts : "")}.");
    }

    /// <summary>A decision has been written, or given up: the PciNode says the rest.</summary>
    public void Settle(string node, string claimUid)
    {
        bool more;
        lock (_lock)
        {
            var facts = Facts(node);
            facts.Assumed.Remove(claimUid);
            _assumed.Remove(claimUid);
            more = Rebuild(node, facts);
        }

        if (more)
            OffersChanged?.Invoke();
    }

    /// <summary>How many devices a PciDeviceSpec matches, and on how many nodes.</summary>
    public (int Nodes, int Devices) CountOfSpec(string name)
    {
        lock (_lock)
            return Sum(_nodes.Values.Select(n => n.Matched.BySpec.GetValueOrDefault(name)));
    }

    /// <summary>How many devices an alias means, free or not, and on how many nodes.</summary>
    public (int Nodes, int Devices) CountOfAlias(AliasDefinition alias)
    {
        lock (_lock)
            return Sum(_nodes.Values.Select(n => n.Matched.Count(alias)));
    }

    private static (int Nodes, int Devices) Sum(IEnumerable<int> counts)
    {
        var (nodes, devices) = (0, 0);
        foreach (var count in counts)
            (nodes, devices) = (nodes + (count > 0 ? 1 : 0), devices + count);
        return (nodes, devices);
    }

    /// <summary>What of a Node decides whether claims may be placed on it.</summary>
    private static string? Fingerprint(V1Node? node) => node is null ? null : string.Join('|',
    [
        node.Metadata.DeletionTimestamp is null ? null : "going away",
        NodeFilters.Unusable(node)?.Code,
        .. (node.Spec?.Taints ?? []).Select(t => $"{t.Key}={t.Value}:{t.Effect}"),
        .. (node.Metadata.Labels ?? new Dictionary<string, string>()).OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => $"{p.Key}={p.Value}"),
    ]);

    internal static bool IsOutOfService(V1Node node) =>
        node.Spec?.Taints?.Any(t => t.Key == "node.kubernetes.io/out-of-service") == true;

    private bool IsPlaced(string claimUid) =>
        _assigned.GetViewBetween((claimUid, ""), (claimUid, "\uffff")).Any(a => !IsGone(a.Node))
        || _assumed.Contains(claimUid);

    private NodeFacts Facts(string name)
    {
        if (!_nodes.TryGetValue(name, out var facts))
            _nodes[name] = facts = new NodeFacts();
        return facts;
    }

    private void Assume(string node, string claimUid, IReadOnlyList<AllocatedDevice> devices)
    {
        var facts = Facts(node);
        facts.Assumed[claimUid] = devices;
        _assumed.Add(claimUid);
        Rebuild(node, facts);
    }

    /// <summary>Brings one node's part of the snapshot up to date. True when a device is free that was not, or is kept back for another reason, or NUMA nodes are in other sockets: those that wait say it.</summary>
    private bool Rebuild(string name, NodeFacts facts)
    {
        if (facts.Node is null && facts.PciNode is null)
        {
            if (!facts.AgentReady)
                _nodes.Remove(name);
            _inventory = _inventory.Without(name);
            return false;
        }

        var built = Build(name, facts, null);
        _inventory = _inventory.With(built);
        var free = built.Devices.Where(d => d is { Owner: null, BlockedReason: null, Tags: not null }).Select(d => d.Function.Address).ToHashSet();
        var kept = built.Devices.Where(d => d is { Owner: null, BlockedReason: not null, Tags: not null }).Select(d => (d.Function.Address, d.BlockedReason)).ToHashSet();
        var more = !free.IsSubsetOf(facts.Free) || !kept.SetEquals(facts.Kept) || !SameSockets(facts.Sockets, built.Sockets);
        facts.Sockets = built.Sockets;
        (facts.Free, facts.Kept) = (free, kept);
        facts.Matched = facts.Matched.Update(built);
        return more;
    }

    private static bool SameSockets(IReadOnlyDictionary<int, int?> a, IReadOnlyDictionary<int, int?> b) =>
        a.Count == b.Count && a.All(p => b.TryGetValue(p.Key, out var socket) && socket == p.Value);

    private static NodeInventory Build(string name, NodeFacts facts, IReadOnlyDictionary<string, IReadOnlyList<AllocatedDevice>>? tried)
    {
        var status = facts.PciNode?.Status;
        var sockets = SocketsOf(status);
        if (status?.Devices is not { } devices)
            return NodeInventory.Build(name, [], sockets);

        var owners = new Dictionary<string, string>();
        foreach (var (uid, taken) in facts.Assumed.Concat(tried ?? new Dictionary<string, IReadOnlyList<AllocatedDevice>>()))
        {
            foreach (var device in taken)
                owners[device.Address.ToString()] = uid;
        }

        // Occupied is what the spec assigns and whatever the agent's journal still holds.
        foreach (var assignment in facts.PciNode!.Spec.Assignments ?? [])
        {
            foreach (var device in assignment.Devices)
                owners[device.Address] = assignment.ClaimUid;
        }

        foreach (var held in status.Assignments ?? [])
        {
            if (held.State == AssignmentState.Rejected)
                continue;
            foreach (var device in held.Devices ?? [])
                owners.TryAdd(device.Address, held.ClaimUid);
        }

        var rules = (facts.PciNode.Spec.Rules ?? []).ToDictionary(r => r.Name, r => r.ToTags());
        return NodeInventory.Build(name,
        [
            .. devices.Select(d => new NodeDevice
            {
                Function = d.ToFunction(),
                Rule = d.Rule,
                // A rule that is gone gives nothing away any more, whatever the agent has still to notice.
                Tags = d.Rule is { } rule && rules.TryGetValue(rule, out var tags) ? tags : null,
                Owner = owners.GetValueOrDefault(d.Address),
                BlockedReason = d.State is PciDeviceState.Unavailable or PciDeviceState.Removed && !owners.ContainsKey(d.Address) && !DerivedFromOwners(d, devices, owners)
                    ? d.Reason ?? "it is not available"
                    : null,
            }),
        ], sockets);
    }

    // The host's whole topology, as the agent sees it; what devices say of their own nodes is enough only where an older agent says nothing.
    private static Dictionary<int, int?>? SocketsOf(PciNodeStatus? status)
    {
        if (status?.NumaNodes is not { } nodes)
            return null;
        var sockets = new Dictionary<int, int?>(nodes.Count);
        foreach (var node in nodes)
            sockets[node.Id] = node.Socket;
        return sockets;
    }

    /// <summary>Whether the agent calls a device unavailable only because its PF or one of its VFs is given away: the allocator works that out itself from the owners.</summary>
    private static bool DerivedFromOwners(PciNodeDevice device, IReadOnlyList<PciNodeDevice> all, Dictionary<string, string> owners) =>
        device.Type == PciDeviceType.VirtualFunction ? device.ParentAddress is { } parent && owners.ContainsKey(parent)
        : device.Type == PciDeviceType.PhysicalFunction && all.Any(v => v.ParentAddress == device.Address && owners.ContainsKey(v.Address));
}

/// <summary>A claim and what it asks for.</summary>
internal sealed record ClaimToPlace(PassthroughClaim Claim, ClaimRequirements Requirements);

/// <summary>Where claims go together; without a node, why nowhere.</summary>
internal sealed record GroupDecision(string? Node, IReadOnlyList<NodeAllocation> Allocations, string Summary)
{
    /// <summary>One of them is being placed already: look again soon.</summary>
    public static GroupDecision Busy { get; } = new(null, [], "");
}

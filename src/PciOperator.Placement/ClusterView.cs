using System.Collections.Concurrent;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>
/// What the whole cluster offers at this moment: the allocator's snapshot, kept up to date one node at a time, with the
/// decisions that are on their way to the API server counted in. Thread-safe.
/// </summary>
internal sealed class ClusterView
{
    private readonly Lock _lock = new();
    private readonly ConcurrentDictionary<string, NodeFacts> _nodes = [];
    private readonly ConcurrentDictionary<string, (long Version, GroupDecision Decision)> _refusedGroups = [];
    private readonly Dictionary<string, AliasDefinition> _aliases = [];
    private readonly SortedSet<(string ClaimUid, string Node)> _assigned = [];
    private readonly HashSet<string> _assumed = [];
    private ClusterInventory _inventory = ClusterInventory.Empty;
    private long _version;
    private long _decisions;

    /// <summary>How many decisions have been worked out, for tests.</summary>
    public long Decisions => Interlocked.Read(ref _decisions);

    private Dictionary<string, NodeChange> _changedNodes = [];
    private HashSet<string> _changedAliases = [];

    /// <summary>Something became free or possible that was not before: <see cref="TakeChanges"/> says for whom.</summary>
    public event Action? OffersChanged;

    private sealed class NodeFacts
    {
        public V1Node? Node;
        public PciNode? PciNode;
        public bool AgentReady;
        public Dictionary<string, IReadOnlyList<AllocatedDevice>> Assumed = [];
        public Dictionary<PciAddress, Seen> Offered = [];
        public HashSet<PciAddress> Kept = [];
        public Dictionary<string, DeviceTags>? Tags;
        public IReadOnlyDictionary<int, int?> Sockets = new Dictionary<int, int?>();
        public MatchedDevices Matched = MatchedDevices.None;

        // Of the node as it is; begun anew with each change.
        public Dictionary<AliasDefinition, DevicesByUse> Counts = new(ReferenceEqualityComparer.Instance);
    }

    /// <summary>A Node changed or is gone (null).</summary>
    public void SetNode(string name, V1Node? node)
    {
        bool more;
        lock (_lock)
        {
            NodeFacts facts = Facts(name);
            more = Fingerprint(facts.Node) != Fingerprint(node);
            if (more)
                Note(name, facts, []);
            facts.Node = node;
            more |= Rebuild(name, facts);
        }

        if (more)
            OffersChanged?.Invoke();
    }

    /// <summary>A PciNode changed or is gone (null). What is older than what is known already changes nothing.</summary>
    public void SetPciNode(string name, PciNode? node)
    {
        node = node is null ? null : Reports.Readable(node);
        bool more;
        lock (_lock)
        {
            NodeFacts facts = Facts(name);
            if (node is not null && facts.PciNode is { } known && known.Metadata.Uid == node.Metadata.Uid && Version(node) < Version(known))
                return;
            foreach (PciAssignment assignment in facts.PciNode?.Spec.Assignments ?? [])
                _assigned.Remove((assignment.ClaimUid, name));
            foreach (PciAssignment assignment in node?.Spec.Assignments ?? [])
                _assigned.Add((assignment.ClaimUid, name));
            more = Admits(facts.PciNode) != Admits(node) || IsRegistered(facts.PciNode) != IsRegistered(node);
            if (more)
                Note(name, facts, []);
            if (!PciNodeRules.Same(facts.PciNode?.Spec.Rules, node?.Spec.Rules ?? []))
                facts.Tags = null;
            facts.PciNode = node;
            more |= Rebuild(name, facts);
        }

        if (more)
            OffersChanged?.Invoke();

        // What of a PciNode NodeFilters looks at.
        static bool Admits(PciNode? n) =>
            n is { Metadata.DeletionTimestamp: null, Status: { } status }
            && !NodeShares.IsFull(n.Spec)
            && status.Conditions.IsTrue(Conditions.InventoryReady);

        static long Version(PciNode n) => long.TryParse(n.Metadata.ResourceVersion, out long version) ? version : 0;
    }

    /// <summary>Why a claim can't be offered to kube-scheduler on a node; null: it can.</summary>
    private static RefusalReason? WhyNotOffered(PciNode? node) =>
        IsRegistered(node) ? null : new("KubeletNotRegistered", "have a kubelet that does not know the agent's DRA plugin");

    private static bool IsRegistered(PciNode? node) => node?.Status?.Conditions.IsTrue(Conditions.KubeletRegistered) == true;

    /// <summary>A node's agent became ready, or stopped being so.</summary>
    public void SetAgentReady(string name, bool ready)
    {
        lock (_lock)
        {
            NodeFacts facts = Facts(name);
            if (facts.AgentReady == ready)
                return;
            Note(name, facts, []);
            facts.AgentReady = ready;
            facts.Counts.Clear();
            _version++;
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
            _changedAliases.Add(name);
            _version++;
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

    /// <summary>
    /// Whether the node's devices can no longer be asked after: no such Node, or an administrator says it is out of service.
    /// </summary>
    public bool IsGone(string name)
    {
        lock (_lock)
            return _nodes.GetValueOrDefault(name)?.Node is not { } node || IsOutOfService(node);
    }

    /// <summary>
    /// Places claims that belong together on one node, and counts their devices as taken until <see cref="Settle"/>. What is decided
    /// outside the lock, from a snapshot, is taken up only while the chosen node is as it was in it; else it is decided again.
    /// </summary>
    /// <param name="claims">One claim, or several that must be on the same node.</param>
    /// <param name="onlyNode">The node where others of theirs are already; null: any.</param>
    public GroupDecision Place(IReadOnlyList<ClaimToPlace> claims, string? onlyNode)
    {
        const int attempts = 8;
        for (int attempt = 0; attempt < attempts; attempt++)
        {
            ClusterInventory inventory;
            long version;
            lock (_lock)
            {
                // Another worker, or this one a moment ago: its write, or the news of it, is on the way.
                if (claims.Any(c => IsPlaced(c.Requirements.ClaimUid)))
                    return GroupDecision.Busy;
                (inventory, version) = (_inventory, _version);
            }

            GroupDecision decision =
                claims.Count == 1 ? PlaceAlone(inventory, claims[0], onlyNode) : PlaceTogether(inventory, version, claims, onlyNode);
            if (decision.Node is null || TakeUp(inventory, claims, decision, onlyNode))
                return decision;
        }

        return GroupDecision.Busy;
    }

    /// <summary>The nodes that could serve a claim now, best first, each with the devices that it would give; nothing is taken.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="onlyNode">The node where others of its group are; null: any.</param>
    /// <param name="most">How many are wanted.</param>
    /// <param name="refusal">When none could: why, in a sentence.</param>
    public IReadOnlyList<NodeAllocation> Rank(ClaimToPlace claim, string? onlyNode, int most, out string refusal)
    {
        ClusterInventory inventory;
        lock (_lock)
            inventory = _inventory;
        Interlocked.Increment(ref _decisions);
        RefusalReason? Filter(string name) => WhyNot(claim.Claim, onlyNode, name) ?? WhyNotOffered(_nodes.GetValueOrDefault(name)?.PciNode);
        IReadOnlyList<NodeAllocation> ranked = Allocator.Rank(inventory, claim.Requirements, Filter, most, out Decision? refused);
        refusal = refused is null ? "" : refused.Summary + WithheldDevices.Of(inventory.Nodes, Filter, claim, WordOf);
        return ranked;
    }

    /// <summary>What each node says to a claim: its checks in their order up to the first that fails, and then its devices'; nothing is taken.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="onlyNode">The node where others of its group are; null: any.</param>
    public IReadOnlyList<NodeAnswer> Explain(ClaimToPlace claim, string? onlyNode)
    {
        ClusterInventory inventory;
        lock (_lock)
            inventory = _inventory;
        return [.. inventory.Nodes.Select(node => Answer(claim, onlyNode, node))];
    }

    /// <summary>How many claims like this one each node could serve, one after the other, until none fits any more; nothing is taken.</summary>
    public IReadOnlyDictionary<string, int> Capacity(ClaimToPlace claim)
    {
        ClusterInventory inventory;
        lock (_lock)
            inventory = _inventory;
        return inventory
            .Nodes.Where(n => WhyNot(claim.Claim, null, n.Name) is null)
            .ToDictionary(n => n.Name, n => CountOn(n, claim.Requirements));
    }

    private int CountOn(NodeInventory node, ClaimRequirements requirements)
    {
        int room = NodeShares.MostClaims - (_nodes.GetValueOrDefault(node.Name)?.PciNode?.Spec.Assignments?.Count ?? 0);
        int count = 0;
        while (
            count < room
            && Allocator.TryNode(node, requirements) is NodeVerdict.Served { Allocation: { } allocation }
            && allocation.Devices.Count <= NodeShares.MostDevices
        )
        {
            node = node.Take(allocation, $"{requirements.ClaimUid}-{count++}");
        }

        return count;
    }

    private NodeAnswer Answer(ClaimToPlace claim, string? onlyNode, NodeInventory node)
    {
        NodeFacts? facts = _nodes.GetValueOrDefault(node.Name);
        var pair = new NodeFilters.Pair(claim.Claim, facts?.Node, facts?.PciNode, facts?.AgentReady == true, onlyNode, node.Name);
        var checks = new List<(string, RefusalReason?)>();
        foreach (NodeFilters.Check check in NodeFilters.All)
        {
            RefusalReason? reason = check.WhyNot(pair);
            checks.Add((check.Subject, reason));
            if (reason is not null)
                return new NodeAnswer(node.Name, checks, null, "");
        }

        if (claim.Claim.Spec.BindingMode == BindingMode.WaitForFirstConsumer)
        {
            RefusalReason? unknown = WhyNotOffered(facts?.PciNode);
            checks.Add(("kubelet knows the agent's plugin", unknown));
            if (unknown is not null)
                return new NodeAnswer(node.Name, checks, null, "");
        }

        NodeVerdict verdict = Allocator.TryNode(node, claim.Requirements);
        string withheld = verdict is NodeVerdict.Served ? "" : WithheldDevices.Of([node], _ => null, claim, WordOf).Trim();
        return new NodeAnswer(node.Name, checks, verdict, withheld);
    }

    private GroupDecision PlaceAlone(ClusterInventory inventory, ClaimToPlace claim, string? onlyNode)
    {
        Interlocked.Increment(ref _decisions);
        RefusalReason? Filter(string name) => WhyNot(claim.Claim, onlyNode, name);
        Decision decision = Allocator.Decide(inventory, claim.Requirements, Filter);
        return decision.Allocation is null
            ? new GroupDecision(null, [], decision.Summary + WithheldDevices.Of(inventory.Nodes, Filter, claim, WordOf))
            : new GroupDecision(decision.Allocation.Node, [decision.Allocation], decision.Summary);
    }

    /// <summary>Several claims on one node. A refusal is worked out once for all of them, and holds until something changes.</summary>
    private GroupDecision PlaceTogether(ClusterInventory inventory, long version, IReadOnlyList<ClaimToPlace> claims, string? onlyNode)
    {
        const int mostKept = 1024;
        string group = string.Join(';', claims.Select(Identity).Order(StringComparer.Ordinal)) + onlyNode;
        if (_refusedGroups.TryGetValue(group, out (long Version, GroupDecision Decision) known) && known.Version == version)
            return known.Decision;

        Interlocked.Increment(ref _decisions);
        RefusalReason? Filter(string name) => claims.Select(c => WhyNot(c.Claim, onlyNode, name)).FirstOrDefault(r => r is not null);
        if (
            JointAllocator.Decide(
                inventory,
                [.. claims.Select(c => c.Requirements)],
                Filter,
                out IReadOnlyList<(RefusalReason Reason, int Nodes)>? refusals
            ) is
            { } allocations
        )
        {
            return new GroupDecision(allocations[0].Node, allocations, $"Placed together on node {allocations[0].Node}.");
        }

        string counts = string.Join(", ", refusals.Select(r => r.Reason.Of(r.Nodes)));
        string names = string.Join(", ", claims.Select(c => c.Claim.Metadata.Name).Order(StringComparer.Ordinal));
        var refused = new GroupDecision(
            null,
            [],
            $"0/{inventory.Count} nodes can serve the claims {names} together{(counts.Length > 0 ? ": " + counts : "")}."
        );
        if (_refusedGroups.Count >= mostKept)
            _refusedGroups.Clear();
        _refusedGroups[group] = (version, refused);
        return refused;

        static string Identity(ClaimToPlace claim) =>
            claim.Requirements.ClaimUid
            + string.Concat(claim.Requirements.Excluded.Select(e => $" {e.Node}/{e.Address}").Order(StringComparer.Ordinal));
    }

    /// <summary>The word by which a node withholds a device; null: it has none.</summary>
    private string? WordOf(string node, PciAddress address)
    {
        string text = address.ToString();
        return _nodes.GetValueOrDefault(node)?.PciNode?.Status?.Devices?.FirstOrDefault(d => d.Address == text)?.WithheldBy;
    }

    /// <summary>Counts a decision's devices as taken, if all that it was made from still holds.</summary>
    private bool TakeUp(ClusterInventory inventory, IReadOnlyList<ClaimToPlace> claims, GroupDecision decision, string? onlyNode)
    {
        string node = decision.Node!;
        lock (_lock)
        {
            if (
                !ReferenceEquals(_inventory.Find(node), inventory.Find(node))
                || claims.Any(c => IsPlaced(c.Requirements.ClaimUid) || WhyNot(c.Claim, onlyNode, node) is not null)
            )
            {
                return false;
            }

            foreach ((ClaimToPlace claim, NodeAllocation allocation) in claims.Zip(decision.Allocations))
                Assume(node, claim.Requirements.ClaimUid, allocation.Devices);
            return true;
        }
    }

    /// <summary>Why a claim may not be placed on a node, whatever its devices; null: it may. Needs no lock.</summary>
    private RefusalReason? WhyNot(PassthroughClaim claim, string? onlyNode, string name)
    {
        NodeFacts? facts = _nodes.GetValueOrDefault(name);
        return NodeFilters.WhyNot(claim, facts?.Node, facts?.PciNode, facts?.AgentReady == true, onlyNode, name);
    }

    /// <summary>A decision has been written, or given up: the PciNode says the rest.</summary>
    public void Settle(string node, string claimUid)
    {
        bool more;
        lock (_lock)
        {
            NodeFacts facts = Facts(node);
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

    /// <summary>The devices that an alias means, by what can be done with them now.</summary>
    public DevicesByUse DevicesOfAlias(AliasDefinition alias)
    {
        lock (_lock)
            return _nodes.Aggregate(DevicesByUse.None, (sum, node) => sum + CountsOf(node.Key, node.Value, alias));
    }

    private DevicesByUse CountsOf(string name, NodeFacts facts, AliasDefinition alias)
    {
        if (facts.Counts.TryGetValue(alias, out DevicesByUse known))
            return known;
        DevicesByUse counts = DevicesByUse.None;
        IReadOnlyList<PciAddress> addresses = facts.Matched.Addresses(alias);
        if (addresses.Count > 0 && _inventory.Find(name) is { } inventory)
        {
            var owned = inventory.Devices.Where(d => d.Owner is not null).Select(d => d.Function.Address).ToHashSet();
            var bound = (facts.PciNode?.Status?.Devices ?? [])
                .Where(d => d.State == DeviceState.Allocated)
                .Select(d => d.Address)
                .ToHashSet();
            bool usable =
                facts is { AgentReady: true, Node: { } node, PciNode.Metadata.DeletionTimestamp: null }
                && facts.PciNode.Spec.Settling != true
                && NodeFilters.Unusable(node) is null;
            foreach (PciAddress address in addresses)
            {
                counts +=
                    owned.Contains(address) ? (bound.Contains(address.ToString()) ? DevicesByUse.OneAllocated : DevicesByUse.OneClaimed)
                    : usable && facts.Offered.ContainsKey(address) ? DevicesByUse.OneAvailable
                    : DevicesByUse.OneUnavailable;
            }
        }

        return facts.Counts[alias] = counts;
    }

    /// <summary>
    /// The type of devices that an alias, which means none, would mean but for their type; null: there are no such devices.
    /// </summary>
    public DeviceType? OtherTypeOf(AliasDefinition alias)
    {
        lock (_lock)
            return _nodes.Values.Select(n => n.Matched.OtherType(alias)).FirstOrDefault(t => t is not null);
    }

    private static (int Nodes, int Devices) Sum(IEnumerable<int> counts)
    {
        (int nodes, int devices) = (0, 0);
        foreach (int count in counts)
            (nodes, devices) = (nodes + (count > 0 ? 1 : 0), devices + count);
        return (nodes, devices);
    }

    /// <summary>What of a Node decides whether claims may be placed on it.</summary>
    private static string? Fingerprint(V1Node? node) =>
        node is null
            ? null
            : string.Join(
                '|',
                [
                    node.Metadata.DeletionTimestamp is null ? null : "going away",
                    NodeFilters.Unusable(node)?.Code,
                    .. (node.Spec?.Taints ?? []).Select(t => $"{t.Key}={t.Value}:{t.Effect}"),
                    .. (node.Metadata.Labels ?? new Dictionary<string, string>())
                        .OrderBy(p => p.Key, StringComparer.Ordinal)
                        .Select(p => $"{p.Key}={p.Value}"),
                ]
            );

    internal static bool IsOutOfService(V1Node node) => node.Spec?.Taints?.Any(t => t.Key == "node.kubernetes.io/out-of-service") == true;

    private bool IsPlaced(string claimUid) =>
        _assigned.GetViewBetween((claimUid, ""), (claimUid, "\uffff")).Any(a => !IsGone(a.Node)) || _assumed.Contains(claimUid);

    /// <summary>Whether something has changed since <see cref="TakeChanges"/> was asked last.</summary>
    public bool HasChanges
    {
        get
        {
            lock (_lock)
                return _changedNodes.Count + _changedAliases.Count > 0;
        }
    }

    /// <summary>
    /// What has changed since this was asked last, as a question about a claim that waits: whether it may help the claim, or is news for
    /// it. A node that is no longer usable, devices that no alias of the claim means, and a change that the claim's own selectors and
    /// tolerations keep away from it, are not.
    /// </summary>
    public Func<PassthroughClaim, bool> TakeChanges()
    {
        const int mostNodes = 64;
        lock (_lock)
        {
            (Dictionary<string, NodeChange> nodes, HashSet<string> aliases) = (_changedNodes, _changedAliases);
            (_changedNodes, _changedAliases) = ([], []);
            if (nodes.Count > mostNodes)
                return _ => true; // looking at so many for each claim costs more than it saves
            return claim => claim.Spec.Requests.Any(r => aliases.Contains(r.Alias)) || nodes.Any(n => Concerns(claim, n.Key, n.Value));
        }
    }

    private bool Concerns(PassthroughClaim claim, string name, NodeChange change)
    {
        if (WhyNot(claim, null, name) is not null)
            return false;
        var aliases = claim.Spec.Requests.Select(r => Alias(r.Alias)).OfType<AliasDefinition>().ToList();
        if (change.News.Any(d => aliases.Any(a => a.Matches(d.Function, d.Tags))))
            return true;
        // Who lets kube-scheduler choose is offered only where the kubelet can hand the devices on.
        bool reached =
            claim.Spec.BindingMode == BindingMode.WaitForFirstConsumer
            && !IsRegistered(change.PciNode)
            && IsRegistered(_nodes.GetValueOrDefault(name)?.PciNode);
        return (reached || NodeFilters.WhyNot(claim, change.Node, change.PciNode, change.AgentReady, null, name) is not null)
            && _nodes.GetValueOrDefault(name)?.Matched is { } matched
            && aliases.Any(a => Means(matched, a));

        bool Means(MatchedDevices matched, AliasDefinition alias)
        {
            lock (_lock)
                return matched.Count(alias) > 0;
        }
    }

    /// <summary>A node is about to change, or has news; what it was when the changes were last taken counts.</summary>
    private void Note(string name, NodeFacts before, IEnumerable<Seen> news)
    {
        if (!_changedNodes.TryGetValue(name, out NodeChange? change))
            _changedNodes[name] = change = new NodeChange(before.Node, before.PciNode, before.AgentReady, []);
        change.News.UnionWith(news);
    }

    /// <summary>A device as aliases see it.</summary>
    private readonly record struct Seen(PciFunction Function, DeviceTags Tags);

    private static Seen ToSeen(NodeDevice device) => new(device.Function, device.Tags!);

    /// <summary>A node as it was, and what it offers or keeps back since.</summary>
    private sealed record NodeChange(V1Node? Node, PciNode? PciNode, bool AgentReady, HashSet<Seen> News);

    private NodeFacts Facts(string name)
    {
        if (!_nodes.TryGetValue(name, out NodeFacts? facts))
            _nodes[name] = facts = new NodeFacts();
        return facts;
    }

    private void Assume(string node, string claimUid, IReadOnlyList<AllocatedDevice> devices)
    {
        NodeFacts facts = Facts(node);
        facts.Assumed[claimUid] = devices;
        _assumed.Add(claimUid);
        Rebuild(node, facts);
    }

    /// <summary>
    /// Brings one node's part of the snapshot up to date. True when a device is offered that was not, or is kept back now, or NUMA nodes
    /// are in other sockets: those that wait for such a device say it.
    /// </summary>
    private bool Rebuild(string name, NodeFacts facts)
    {
        _version++;
        if (facts.Node is null && facts.PciNode is null)
        {
            if (!facts.AgentReady)
                _nodes.TryRemove(name, out _);
            _inventory = _inventory.Without(name);
            return false;
        }

        NodeInventory built = Build(name, facts);
        _inventory = _inventory.With(built);
        var offered = built
            .Devices.Where(d => d.Tags is not null && built.WhyNotOffered(d.Function.Address) is null)
            .ToDictionary(d => d.Function.Address, ToSeen);
        var kept = built
            .Devices.Where(d => d is { Owner: null, BlockedReason: not null, Tags: not null })
            .Select(d => d.Function.Address)
            .ToHashSet();
        bool moved = !SameSockets(facts.Sockets, built.Sockets);
        facts.Sockets = built.Sockets;
        List<Seen> news =
        [
            .. offered.Where(d => moved || !facts.Offered.TryGetValue(d.Key, out Seen before) || before != d.Value).Select(d => d.Value),
            .. built.Devices.Where(d => kept.Contains(d.Function.Address) && !facts.Kept.Contains(d.Function.Address)).Select(ToSeen),
        ];
        if (news.Count > 0)
            Note(name, facts, news);
        (facts.Offered, facts.Kept) = (offered, kept);
        facts.Matched = facts.Matched.Update(built);
        facts.Counts.Clear();
        return news.Count > 0;
    }

    private static bool SameSockets(IReadOnlyDictionary<int, int?> a, IReadOnlyDictionary<int, int?> b) =>
        a.Count == b.Count && a.All(p => b.TryGetValue(p.Key, out int? socket) && socket == p.Value);

    /// <summary>What a node offers by its PciNode alone, decisions that are on their way left out.</summary>
    public static NodeInventory InventoryOf(PciNode node) => Build(node.Metadata.Name, new NodeFacts { PciNode = node });

    private static NodeInventory Build(string name, NodeFacts facts)
    {
        PciNodeStatus? status = facts.PciNode?.Status;
        IReadOnlyDictionary<int, int?>? sockets = status?.ToSockets();
        if (status?.Devices is not { } devices)
            return NodeInventory.Build(name, [], sockets);

        var owners = new Dictionary<string, string>();
        foreach ((string uid, IReadOnlyList<AllocatedDevice> taken) in facts.Assumed)
        {
            foreach (AllocatedDevice device in taken)
                owners[device.Address.ToString()] = uid;
        }

        // Occupied is what the spec assigns and whatever the agent's journal still holds.
        foreach (PciAssignment assignment in facts.PciNode!.Spec.Assignments ?? [])
        {
            foreach (AssignedDevice device in assignment.Devices)
                owners[device.Address] = assignment.ClaimUid;
        }

        foreach (AssignmentStatus held in status.Assignments ?? [])
        {
            if (held.State == HoldingState.Rejected)
                continue;
            foreach (AssignedDeviceStatus device in held.Devices ?? [])
                owners.TryAdd(device.Address, held.ClaimUid);
        }

        // A rule that is gone gives nothing away any more, whatever the agent has still to notice. One rule's tags are one object as long
        // as the rules stay as they are: what they are given for compares as equal.
        Dictionary<string, DeviceTags> rules = facts.Tags ??= (facts.PciNode.Spec.Rules ?? []).ToDictionary(r => r.Name, r => r.ToTags());
        return NodeInventory.Build(
            name,
            [
                .. devices.Select(d =>
                    d.ToNodeDevice(rules) with
                    {
                        Owner = owners.GetValueOrDefault(d.Address),
                        BlockedReason =
                            d.State is DeviceState.Unavailable or DeviceState.Removed
                            && !owners.ContainsKey(d.Address)
                            && !DerivedFromOwners(d, devices, owners)
                                ? d.Reason ?? "it is not available"
                                : null,
                    }
                ),
            ],
            sockets
        );
    }

    /// <summary>
    /// Whether the agent calls a device unavailable only because its PF or one of its VFs is given away: the allocator works that out
    /// itself from the owners.
    /// </summary>
    private static bool DerivedFromOwners(PciNodeDevice device, IReadOnlyList<PciNodeDevice> all, Dictionary<string, string> owners) =>
        device.Type == DeviceType.Vf
            ? device.ParentAddress is { } parent && owners.ContainsKey(parent)
            : device.Type == DeviceType.Pf && all.Any(v => v.ParentAddress == device.Address && owners.ContainsKey(v.Address));
}

/// <summary>Devices by what can be done with them.</summary>
/// <param name="Available">Free, on a node where claims may be placed.</param>
/// <param name="Claimed">Given to a claim, not bound yet.</param>
/// <param name="Allocated">Bound for a claim.</param>
/// <param name="Unavailable">Neither: withheld, or on a node where nothing can be placed now.</param>
internal readonly record struct DevicesByUse(int Available, int Claimed, int Allocated, int Unavailable)
{
    public static DevicesByUse None { get; }

    public static DevicesByUse OneAvailable { get; } = new(1, 0, 0, 0);

    public static DevicesByUse OneClaimed { get; } = new(0, 1, 0, 0);

    public static DevicesByUse OneAllocated { get; } = new(0, 0, 1, 0);

    public static DevicesByUse OneUnavailable { get; } = new(0, 0, 0, 1);

    public static DevicesByUse operator +(DevicesByUse a, DevicesByUse b) =>
        new(a.Available + b.Available, a.Claimed + b.Claimed, a.Allocated + b.Allocated, a.Unavailable + b.Unavailable);
}

/// <summary>What a node says to a claim.</summary>
/// <param name="Node">The node.</param>
/// <param name="Checks">Its checks up to the first that fails, each with the reason or null.</param>
/// <param name="Verdict">What its devices allow; null: a check failed before.</param>
/// <param name="Withheld">Which devices it keeps back, and why, as a sentence; empty: none.</param>
internal sealed record NodeAnswer(
    string Node,
    IReadOnlyList<(string Subject, RefusalReason? Reason)> Checks,
    NodeVerdict? Verdict,
    string Withheld
)
{
    /// <summary>Why not; null: the node can serve it.</summary>
    public RefusalReason? WhyNot =>
        Verdict switch
        {
            null => Checks[^1].Reason,
            NodeVerdict.Refused refused => refused.Reason,
            NodeVerdict.TooComplex complex => complex.Reason,
            _ => null,
        };

    /// <summary>The devices that it would give.</summary>
    public NodeAllocation? Allocation => (Verdict as NodeVerdict.Served)?.Allocation;
}

/// <summary>A claim and what it asks for.</summary>
internal sealed record ClaimToPlace(PassthroughClaim Claim, ClaimRequirements Requirements);

/// <summary>Where claims go together; without a node, why nowhere.</summary>
internal sealed record GroupDecision(string? Node, IReadOnlyList<NodeAllocation> Allocations, string Summary)
{
    /// <summary>One of them is being placed already: look again soon.</summary>
    public static GroupDecision Busy { get; } = new(null, [], "");
}

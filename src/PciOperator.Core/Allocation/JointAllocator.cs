namespace PciOperator.Core;

/// <summary>
/// Decides claims that must be on one node as one question: whether the node's IOMMU groups can be shared out so that each claim is served.
/// </summary>
/// <remarks>
/// A group goes to one claim as a whole, and each claim has its own guest and NUMA nodes, so the claims are not one large claim. Exact
/// within the bound: claims are served one after the other, and where a later one is left without, the earlier ones give up one group after
/// the other. A node's search ends at <see cref="WorkBounds.Together"/>, after one try in any case; a decision's at
/// <see cref="WorkBounds.Decision"/>, and nodes after that are not looked at.
/// </remarks>
public static class JointAllocator
{
    // What it takes to make and to compare a node with one claim's devices gone, for each device, in the numbers that the bounds count.
    private const long NumbersOfDevice = 250;

    private static readonly RefusalReason TooComplex = new(RefusalCodes.TooComplex, "are too complex to decide for these claims together");
    private static readonly RefusalReason NotTogether = new(RefusalCodes.Conflict, "have enough for each claim but not for all together");

    /// <summary>Chooses a node for claims that belong together, and the devices of each.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claims">The claims.</param>
    /// <param name="nodeFilter">Null when a node passes; else why not.</param>
    /// <param name="refusals">The nodes by reason when none serves them.</param>
    /// <returns>An allocation for each claim, in their order; null when no node serves all.</returns>
    public static IReadOnlyList<NodeAllocation>? Decide(
        ClusterInventory cluster,
        IReadOnlyList<ClaimRequirements> claims,
        Func<string, RefusalReason?> nodeFilter,
        out IReadOnlyList<(RefusalReason Reason, int Nodes)> refusals
    )
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(claims);
        ArgumentNullException.ThrowIfNull(nodeFilter);
        var counts = new Dictionary<RefusalReason, int>();
        var known = new Dictionary<string, RefusalReason>(StringComparer.Ordinal);
        long end = Scratch.Mine.Work + WorkBounds.Decision;
        foreach (NodeInventory node in cluster.Nodes)
        {
            RefusalReason? reason = nodeFilter(node.Name) ?? (Scratch.Mine.Work > end ? RefusalText.NotLookedAt : null);
            if (reason is null && TryNode(node, claims, known, end, out reason) is { } allocations)
            {
                refusals = [];
                return allocations;
            }

            counts[reason!] = counts.GetValueOrDefault(reason!) + 1;
        }

        refusals =
        [
            .. counts.Select(p => (p.Key, p.Value)).OrderByDescending(p => p.Value).ThenBy(p => p.Key.Text, StringComparer.Ordinal),
        ];
        return null;
    }

    /// <summary>Whether and how one node serves all of the claims.</summary>
    /// <param name="node">The node.</param>
    /// <param name="claims">The claims.</param>
    /// <param name="reason">Why not; null when it does.</param>
    public static IReadOnlyList<NodeAllocation>? TryNode(
        NodeInventory node,
        IReadOnlyList<ClaimRequirements> claims,
        out RefusalReason? reason
    )
    {
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(claims);
        return TryNode(node, claims, [], Scratch.Mine.Work + WorkBounds.Decision, out reason);
    }

    private static NodeAllocation[]? TryNode(
        NodeInventory node,
        IReadOnlyList<ClaimRequirements> claims,
        Dictionary<string, RefusalReason> known,
        long end,
        out RefusalReason? reason
    )
    {
        // What one claim alone, or all together without NUMA and whole groups, can't have, needs no search.
        foreach (ClaimRequirements claim in claims.Append(Joined(claims)))
        {
            NodeVerdict verdict = Allocator.TryNode(node, claim);
            reason = verdict switch
            {
                NodeVerdict.Refused(var why) => why,
                NodeVerdict.TooComplex(var why) when claims.Contains(claim) => why,
                _ => Scratch.Mine.Work > end ? TooComplex : null,
            };
            if (reason is not null)
                return null;
        }

        var search = new Search(node, claims);
        string key = search.Key;
        if (known.TryGetValue(key, out reason))
            return null;
        NodeAllocation[]? found = search.Run(Math.Min(end, Scratch.Mine.Work + WorkBounds.Together));
        reason =
            found is not null ? null
            : search.GaveUp ? TooComplex
            : NotTogether;
        if (reason is not null)
            known[key] = reason;
        return found;
    }

    // All that is asked for, as one claim without NUMA: whoever can't serve that can't serve the claims.
    private static ClaimRequirements Joined(IReadOnlyList<ClaimRequirements> claims) =>
        new()
        {
            ClaimUid = "",
            GuestNuma = GuestNuma.None,
            Requests =
            [
                .. claims.SelectMany((c, i) => c.Requests.Select(r => r with { Name = $"{i}/{r.Name}", NumaPolicy = NumaPolicy.Legacy })),
            ],
        };

    /// <summary>One node's search.</summary>
    private sealed class Search
    {
        private readonly NodeInventory _node;
        private readonly ClaimRequirements[] _claims;
        private readonly int[] _order;
        private readonly HashSet<PciAddress> _parents;
        private readonly HashSet<string> _failed = new(StringComparer.Ordinal);
        private readonly NodeAllocation[] _found;
        private long _end;
        private int _steps;

        public Search(NodeInventory node, IReadOnlyList<ClaimRequirements> claims)
        {
            _node = node;
            // Who has the least choice chooses first.
            _order = [.. Enumerable.Range(0, claims.Count).OrderBy(i => Choice(node, claims[i])).ThenBy(i => i)];
            _claims = [.. _order.Select(i => claims[i])];
            _found = new NodeAllocation[claims.Count];
            _parents = [.. node.Devices.Select(d => d.Function.ParentAddress).OfType<PciAddress>()];
        }

        public bool GaveUp { get; private set; }

        /// <summary>Equal for nodes that give the same answer.</summary>
        public string Key =>
            string.Join(',', _node.Sockets.OrderBy(s => s.Key).Select(s => $"{s.Key}={s.Value}")) + KeyOf(0, Signatures(_node));

        public NodeAllocation[]? Run(long mostWork)
        {
            _end = mostWork;
            if (!Serve(0, _node))
                return null;
            var result = new NodeAllocation[_found.Length];
            for (int i = 0; i < _order.Length; i++)
                result[_order[i]] = _found[i];
            return result;
        }

        // The claims from this one on, from what is left.
        private bool Serve(int claim, NodeInventory left)
        {
            if (claim == _claims.Length)
                return true;
            Dictionary<int, string> signatures = Signatures(left);
            string key = KeyOf(claim, signatures);
            if (_failed.Contains(key))
                return false;
            if (Share(claim, left, left, [], signatures))
                return true;
            if (!GaveUp)
                _failed.Add(key);
            return false;
        }

        /// <summary>
        /// Serves a claim and those after it. Of the solutions, those are looked for in which it has every group of
        /// <paramref name="kept"/>, and else only
        /// devices of <paramref name="open"/>. When those after it are not served from what the allocator leaves, then every solution lacks
        /// one of the groups that it chose: without the first, with the first but without the second, and so on. Groups that are the same
        /// go together.
        /// </summary>
        private bool Share(int claim, NodeInventory left, NodeInventory open, HashSet<int> kept, Dictionary<int, string> signatures)
        {
            if (GaveUp || (_steps >= _claims.Length && Scratch.Mine.Work > _end))
            {
                GaveUp = true;
                return false;
            }

            _steps++;
            Count(open);
            if (Allocator.TryNode(open, _claims[claim]) is not NodeVerdict.Served(var allocation))
                return false;
            _found[claim] = allocation;
            if (Serve(claim + 1, left.Take(allocation, _claims[claim].ClaimUid)))
                return true;
            foreach (int group in allocation.Devices.Select(d => left.Find(d.Address)!.Function.IommuGroup!.Value).Distinct())
            {
                if (kept.Contains(group))
                    continue;
                HashSet<int> alike = [.. signatures.Where(s => s.Value == signatures[group] && !kept.Contains(s.Key)).Select(s => s.Key)];
                if (Share(claim, left, Hide(open, alike), kept, signatures))
                    return true;
                kept = [.. kept, group];
            }

            return false;
        }

        private static void Count(NodeInventory made) => Scratch.Mine.Spend(NumbersOfDevice * made.Devices.Count);

        // Not for this claim, and nothing against a PF whose VFs they are.
        private static NodeInventory Hide(NodeInventory open, HashSet<int> groups) =>
            NodeInventory.Build(
                open.Name,
                [.. open.Devices.Select(d => d.Function.IommuGroup is { } group && groups.Contains(group) ? d with { Tags = null } : d)],
                open.Sockets
            );

        // What a group is to every claim. Only one's own address tells apart a PF with VFs and what was refused for a claim.
        private Dictionary<int, string> Signatures(NodeInventory left)
        {
            Count(left);
            var signatures = new Dictionary<int, string>();
            foreach ((int group, List<int> members) in left.Groups)
            {
                if (members.Any(m => left.WhyNotOffered(left.Devices[m].Function.Address) is null))
                {
                    signatures[group] = string.Join(
                        "\n\n\n",
                        members.Select(m => SignatureOf(left, left.Devices[m])).Order(StringComparer.Ordinal)
                    );
                }
            }

            return signatures;
        }

        private string SignatureOf(NodeInventory left, NodeDevice device)
        {
            PciFunction f = device.Function;
            bool excluded = _claims.Any(c => c.Excluded.Contains(new DeviceExclusion(left.Name, f.Address)));
            string own =
                excluded ? $"{left.Name} {f.Address}"
                : _parents.Contains(f.Address) ? f.Address.ToString()
                : "";
            string kind = left.WhyNotOffered(f.Address) is null ? new DeviceClass(f, device.Tags!).Key : "-";
            return $"{own}|{f.NumaNode}|{f.Socket}|{f.ParentAddress}|{kind}";
        }

        private static string KeyOf(int claim, Dictionary<int, string> signatures) =>
            claim + "\n\n\n\n" + string.Join("\n\n\n\n", signatures.Values.Order(StringComparer.Ordinal));

        private static int Choice(NodeInventory node, ClaimRequirements claim) =>
            node.Devices.Count(d =>
                d.Tags is { } tags
                && node.WhyNotOffered(d.Function.Address) is null
                && claim.Requests.Any(r => r.Alias.Matches(d.Function, tags))
            ) - claim.Requests.Sum(r => Math.Min(r.Count, 1 << 10));
    }
}

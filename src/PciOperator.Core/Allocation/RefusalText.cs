namespace PciOperator.Core;

/// <summary>Finds the reason for a refusal, and words it.</summary>
internal static class RefusalText
{
    private const int MostReasons = 12;

    /// <summary>Enough for each request, not for all.</summary>
    public static readonly RefusalReason Together = new(RefusalCodes.Conflict, "have enough for each request but not for all together");

    /// <summary>No assignment was found, and that there is none was not proved within <see cref="WorkBounds.Deciding"/>.</summary>
    private static readonly RefusalReason TooComplex = new(
        RefusalCodes.TooComplex,
        "are too complex to decide (whole PFs and VFs of many different cards in one claim): ask for fewer different devices at once"
    );

    /// <summary>The decision took all its work (<see cref="WorkBounds.Decision"/>) on other nodes.</summary>
    public static readonly RefusalReason NotLookedAt = new(
        RefusalCodes.TooComplex,
        "were not looked at (other nodes took all the work that one decision may take): ask for fewer different devices at once"
    );

    private static readonly RefusalReason[] Policies =
    [
        .. Enum.GetValues<NumaPolicy>().Select(p => new RefusalReason(RefusalCodes.NumaPolicy, $"fail NUMA policy {p.ToNova()}")),
    ];

    /// <summary>Why the node can't serve the claim: the first rule, from the simplest on, that explains it.</summary>
    /// <param name="node">A node that was refused.</param>
    /// <param name="plan">The claim.</param>
    /// <param name="classMasks">For each of the node's classes, the columns that it may serve.</param>
    /// <param name="fit">The answer.</param>
    public static RefusalReason Explain(NodeInventory node, ClaimPlan plan, ReadOnlySpan<int> classMasks, Fit fit)
    {
        if (fit.GaveUp)
            return fit.NotLookedAt ? NotLookedAt : TooComplex;
        for (int c = 0; c < plan.Columns.Length; c++)
        {
            bool any = false;
            foreach (int mask in classMasks)
                any |= (mask >> c & 1) != 0;
            if (!any)
            {
                return NoDevice(
                    plan,
                    c,
                    OtherTypes
                        .Select(t => (DeviceType?)t)
                        .FirstOrDefault(t => Array.Exists(node.Shape.Classes, k => k.OtherTypeOf(plan.Columns[c].Alias) == t))
                );
            }
        }

        for (int c = 0; c < plan.Columns.Length; c++)
        {
            int free = 0;
            foreach (ref readonly Bucket b in node.Shape.Buckets.AsSpan())
            {
                if ((classMasks[b.Class] >> c & 1) != 0)
                    free += b.Free;
            }

            if (free < plan.Columns[c].Count)
                return TooFew(node, plan, c, free);
        }

        return ExplainWhole(node, plan, classMasks);
    }

    /// <summary>
    /// Why a node that has enough free for each column can't serve all of them. Within <see cref="WorkBounds.Wording"/>: beyond it the
    /// reason is true and says less.
    /// </summary>
    public static RefusalReason ExplainWhole(NodeInventory node, ClaimPlan plan, ReadOnlySpan<int> classMasks)
    {
        Scratch.Mine.Begin(WorkBounds.Wording);
        if (Strict(plan) != 0 && new NodeSolver(node.Shape, plan.WithoutNuma, classMasks).FitsAnywhere() is true)
            return Policies[(int)Culprit(node, plan, classMasks)];
        return Together;
    }

    /// <summary>
    /// The reason of every node without cards that has enough for every set of columns and is refused: the one policy that can refuse this
    /// claim. Null when there are several, and each node needs a look.
    /// </summary>
    public static RefusalReason? OfOnlyPolicy(ClaimPlan plan) => OnlyPolicy(plan) is { } policy ? Policies[(int)policy] : null;

    /// <summary>Types that an alias can be given, the most forgotten first: Nova's default means no PF.</summary>
    public static readonly DeviceType[] OtherTypes = [DeviceType.Pf, DeviceType.Vf, DeviceType.Pci];

    /// <summary>No device is what a request asks for.</summary>
    /// <param name="plan">The claim.</param>
    /// <param name="column">Its column.</param>
    /// <param name="there">The type of devices that are there and would be, but for their type; null: there are none.</param>
    public static RefusalReason NoDevice(ClaimPlan plan, int column, DeviceType? there = null) =>
        new(
            RefusalCodes.NoDevice,
            $"have no device of alias {plan.Columns[column].Alias.Name}"
                + (there is { } type ? $" but of {type.ToNova()} (give deviceType: {type.ToNova()})" : "")
        );

    public static RefusalReason TooFew(ClaimPlan plan, int column, int free) =>
        new(
            RefusalCodes.TooFewFree,
            (free == 0 ? "have none free" : "have too few free")
                + (plan.Columns.Length == 1 ? "" : $" of alias {plan.Columns[column].Alias.Name}")
                + (free == 0 ? $" ({plan.Columns[column].Count} wanted)" : $" ({free} of {plan.Columns[column].Count})")
        );

    /// <summary>
    /// Too few free, or too few because of endpoints that no spec matches. Their addresses are the host's: the claim that reads this is a
    /// tenant's.
    /// </summary>
    public static RefusalReason TooFew(NodeInventory node, ClaimPlan plan, int column, int free)
    {
        (int held, PciAddress? endpoint) = node.HeldByStrangers(plan.Columns[column].Alias);
        return free + held < plan.Columns[column].Count || endpoint is null
            ? TooFew(plan, column, free)
            : new RefusalReason(
                RefusalCodes.GroupBlocked,
                $"have devices of alias {plan.Columns[column].Alias.Name} in an IOMMU group with an endpoint that no device spec matches"
            );
    }

    /// <summary>The decision for a claim that no node serves.</summary>
    public static Decision Summarize(IEnumerable<(RefusalReason Reason, int Nodes)> refusals, int nodes)
    {
        List<(RefusalReason Reason, int Nodes)> sorted =
        [
            .. refusals.Where(r => r.Nodes > 0).OrderByDescending(r => r.Nodes).ThenBy(r => r.Reason.Text, StringComparer.Ordinal),
        ];
        IEnumerable<string> parts = sorted.Take(MostReasons).Select(r => r.Reason.Of(r.Nodes));
        if (sorted.Count > MostReasons)
            parts = parts.Append($"{sorted.Skip(MostReasons).Sum(r => r.Nodes)} have other reasons");
        string list = sorted.Count == 0 ? "" : ": " + string.Join(", ", parts);
        return new Decision { Refusals = sorted, Summary = $"0/{nodes} nodes can serve it{list}." };
    }

    // The policy without which the node could serve it; the strictest when no single one is to blame.
    private static NumaPolicy Culprit(NodeInventory node, ClaimPlan plan, ReadOnlySpan<int> classMasks)
    {
        if (OnlyPolicy(plan) is { } only)
            return only;
        NumaPolicy? strictest = null;
        foreach (NumaPolicy policy in CanRefuse)
        {
            if ((MaskOf(plan, policy) & Strict(plan)) == 0)
                continue;
            if (Serves(node, plan.WithoutPolicy(policy), classMasks))
                return policy;
            strictest ??= policy;
        }

        return strictest ?? NumaPolicy.Preferred;
    }

    private static ReadOnlySpan<NumaPolicy> CanRefuse => [NumaPolicy.Required, NumaPolicy.Socket, NumaPolicy.Legacy];

    // The only policy of the claim that can refuse; null when there are several, or none.
    private static NumaPolicy? OnlyPolicy(ClaimPlan plan)
    {
        int strict = Strict(plan);
        foreach (NumaPolicy policy in CanRefuse)
        {
            if (strict != 0 && MaskOf(plan, policy) == strict)
                return policy;
        }

        return null;
    }

    // The columns whose policy can refuse: a preference can't, nor can legacy of a guest that may go anywhere.
    private static int Strict(ClaimPlan plan) =>
        plan.Guest.Kind switch
        {
            GuestNumaKind.None => 0,
            GuestNumaKind.Unknown => plan.Required | plan.Socket,
            _ => plan.Required | plan.Socket | plan.Legacy,
        };

    private static int MaskOf(ClaimPlan plan, NumaPolicy policy) =>
        policy switch
        {
            NumaPolicy.Required => plan.Required,
            NumaPolicy.Socket => plan.Socket,
            NumaPolicy.Preferred => plan.Preferred,
            _ => plan.Legacy,
        };

    private static bool Serves(NodeInventory node, ClaimPlan plan, ReadOnlySpan<int> classMasks) =>
        new NodeSolver(node.Shape, plan, classMasks).SolveWithin().Served;
}

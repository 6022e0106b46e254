namespace PciOperator.Core;

/// <summary>
/// A claim made ready for many nodes: its requests in order of name, those of one alias and one policy joined into a
/// column with the sum of their counts. The column's bit in a mask says that a device may serve it.
/// </summary>
internal sealed class ClaimPlan
{
    /// <summary>Columns that are decided exactly; the resources allow 8 requests.</summary>
    public const int MostColumns = 12;

    // More than any node has; keeps sums small.
    private const int MostUnits = 1 << 20;

    private ClaimPlan? _withoutNuma;
    private ClaimPlan?[]? _withoutPolicy;

    private ClaimPlan(ClaimRequirements claim, RequestGroup[] columns, RefusalReason? invalid)
    {
        (Claim, Columns, Invalid, Guest) = (claim, columns, invalid, claim.GuestNuma);
        if (invalid is not null)
            return;
        Sets = 1 << columns.Length;
        Demand = new int[Sets];
        for (int set = 1; set < Sets; set++)
        {
            int low = int.TrailingZeroCount(set);
            Demand[set] = Demand[set & (set - 1)] + Math.Min(columns[low].Count, MostUnits);
        }

        for (int i = 0; i < columns.Length; i++)
        {
            int bit = 1 << i;
            switch (columns[i].Policy)
            {
                case NumaPolicy.Required:
                    Required |= bit;
                    break;
                case NumaPolicy.Socket:
                    Socket |= bit;
                    break;
                case NumaPolicy.Preferred:
                    Preferred |= bit;
                    break;
                default:
                    Legacy |= bit;
                    break;
            }
        }
    }

    public ClaimRequirements Claim { get; }

    public RequestGroup[] Columns { get; }

    /// <summary>Why the claim can't be meant, or is beyond the limits; null when all is well.</summary>
    public RefusalReason? Invalid { get; }

    public GuestNuma Guest { get; }

    /// <summary>2 to the number of columns.</summary>
    public int Sets { get; }

    /// <summary>For each set of columns, how many devices they ask for together.</summary>
    public int[] Demand { get; } = [];

    public int All => Sets - 1;

    public int Required { get; }

    public int Socket { get; }

    public int Preferred { get; }

    public int Legacy { get; }

    public static ClaimPlan Of(ClaimRequirements claim)
    {
        IReadOnlyList<DeviceRequest> requests = claim.Requests;
        if (requests.Count == 0)
            return new ClaimPlan(claim, [], new RefusalReason(RefusalCodes.InvalidClaim, "can't serve a claim without requests"));
        for (int i = 0; i < requests.Count; i++)
        {
            if (requests[i].Count < 1)
            {
                return new ClaimPlan(
                    claim,
                    [],
                    new RefusalReason(RefusalCodes.InvalidClaim, $"can't serve request {requests[i].Name} for {requests[i].Count} devices")
                );
            }
        }

        if (requests.Count == 1)
        {
            return new ClaimPlan(
                claim,
                [new RequestGroup(requests[0].Alias, claim.PolicyOf(requests[0]), requests[0].Count, [requests[0]])],
                null
            );
        }

        var columns = new List<RequestGroup>();
        foreach (DeviceRequest request in requests.OrderBy(r => r.Name, StringComparer.Ordinal))
        {
            NumaPolicy policy = claim.PolicyOf(request);
            int same = columns.FindIndex(c => ReferenceEquals(c.Alias, request.Alias) && c.Policy == policy);
            if (same < 0)
            {
                columns.Add(new RequestGroup(request.Alias, policy, request.Count, [request]));
            }
            else
            {
                columns[same] = columns[same] with
                {
                    Count = (int)Math.Min((long)columns[same].Count + request.Count, int.MaxValue),
                    Requests = [.. columns[same].Requests, request],
                };
            }
        }

        return new ClaimPlan(
            claim,
            [.. columns],
            columns.Count <= MostColumns
                ? null
                : new RefusalReason(
                    RefusalCodes.TooComplex,
                    $"can't decide {columns.Count} different requests at once; at most {MostColumns}"
                )
        );
    }

    /// <summary>The columns that devices of a class may serve, where NUMA is not asked.</summary>
    public int MaskOf(DeviceClass c)
    {
        int mask = 0;
        for (int i = 0; i < Columns.Length; i++)
        {
            if (c.Matches(Columns[i].Alias))
                mask |= 1 << i;
        }

        return mask;
    }

    /// <summary>The claim for a guest without NUMA, to tell which rule refused it.</summary>
    public ClaimPlan WithoutNuma => _withoutNuma ??= new ClaimPlan(Claim with { GuestNuma = GuestNuma.None }, Columns, null);

    /// <summary>The claim with one policy turned into a mere preference.</summary>
    public ClaimPlan WithoutPolicy(NumaPolicy policy) =>
        (_withoutPolicy ??= new ClaimPlan?[4])[(int)policy] ??= new ClaimPlan(
            Claim,
            [.. Columns.Select(c => c.Policy == policy ? c with { Policy = NumaPolicy.Preferred } : c)],
            null
        );
}

/// <summary>Requests that the same devices can serve.</summary>
internal sealed record RequestGroup(AliasDefinition Alias, NumaPolicy Policy, int Count, DeviceRequest[] Requests);

using PciOperator.Api;

namespace PciOperator.Placement;

/// <summary>Claims that must be on one node.</summary>
/// <param name="Unplaced">Those without a node, the one asked about first.</param>
/// <param name="Nodes">The nodes of those that have one.</param>
/// <param name="Missing">A claim that is named and does not exist; null: none.</param>
/// <param name="TooMany">Whether more are tied together than <see cref="Most"/>: then nothing else is said of them.</param>
internal sealed record CoLocation(
    IReadOnlyList<PassthroughClaim> Unplaced,
    IReadOnlyList<string> Nodes,
    string? Missing,
    bool TooMany = false
)
{
    /// <summary>So many claims can be tied together, over others too: what a decision for all of them may cost is bounded by it.</summary>
    public const int Most = 16;

    /// <summary>Whether <c>coLocateWith</c> ties a claim to any other, in either direction.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="tiedTo">The claims that name one, given as <c>namespace/name</c>, in their <c>coLocateWith</c>.</param>
    public static bool IsTied(PassthroughClaim claim, Func<string, IEnumerable<PassthroughClaim>> tiedTo) =>
        claim.Spec.CoLocateWith is { Count: > 0 } || tiedTo(Name(claim)).Any();

    /// <summary>All claims that a claim's <c>coLocateWith</c> ties to it, in either direction and over others.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="find">Finds a claim by name and namespace.</param>
    /// <param name="tiedTo">The claims that name one, given as <c>namespace/name</c>, in their <c>coLocateWith</c>.</param>
    public static CoLocation GroupOf(
        PassthroughClaim claim,
        Func<string, string, PassthroughClaim?> find,
        Func<string, IEnumerable<PassthroughClaim>> tiedTo
    )
    {
        if (!IsTied(claim, tiedTo))
            return new CoLocation([claim], [], null);

        string ns = claim.Metadata.NamespaceProperty;
        var members = new Dictionary<string, PassthroughClaim> { [claim.Metadata.Name!] = claim };
        var open = new Queue<PassthroughClaim>([claim]);
        while (open.TryDequeue(out PassthroughClaim? member))
        {
            foreach (string name in member.Spec.CoLocateWith ?? [])
            {
                if (find(name, ns) is not { Metadata.DeletionTimestamp: null } other)
                    return new CoLocation([], [], name);
                if (members.TryAdd(name, other))
                    open.Enqueue(other);
                if (members.Count > Most)
                    return new CoLocation([], [], null, TooMany: true);
            }

            foreach (PassthroughClaim other in tiedTo(Name(member)))
            {
                if (other.Metadata.DeletionTimestamp is null && members.TryAdd(other.Metadata.Name!, other))
                    open.Enqueue(other);
                if (members.Count > Most)
                    return new CoLocation([], [], null, TooMany: true);
            }
        }

        var unplaced = members
            .Values.Where(m => m.Status?.NodeName is not { Length: > 0 } || m.Metadata.Uid == claim.Metadata.Uid)
            .OrderByDescending(m => m.Metadata.Uid == claim.Metadata.Uid)
            .ThenBy(m => m.Metadata.Name, StringComparer.Ordinal)
            .ToList();
        var nodes = members
            .Values.Where(m => m.Metadata.Uid != claim.Metadata.Uid)
            .Select(m => m.Status?.NodeName)
            .OfType<string>()
            .Where(n => n.Length > 0)
            .Distinct()
            .Order(StringComparer.Ordinal)
            .ToList();
        return new CoLocation(unplaced, nodes, null);
    }

    private static string Name(PassthroughClaim claim) => $"{claim.Metadata.NamespaceProperty}/{claim.Metadata.Name}";
}

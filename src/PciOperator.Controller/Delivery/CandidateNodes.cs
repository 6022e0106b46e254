using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>Where a claim can go.</summary>
internal sealed record Candidates(IReadOnlyCollection<string> Names, IReadOnlyList<(string Node, string Hostname)> Hosts, string Refusal)
{
    public Candidates Without(string? node) => this with { Hosts = [.. Hosts.Where(h => h.Node != node)] };
}

/// <summary>Which nodes a claim that waits for a pod is offered on, and which of them kube-scheduler took.</summary>
internal sealed class CandidateNodes(ClusterView view, ControllerCaches caches, DraDelivery dra)
{
    /// <summary>The node that kube-scheduler took; null: there is none of that name.</summary>
    public string? NodeOf(Allocated allocated) =>
        allocated.Node
        ?? (
            allocated.Hostname is { } host
                ? caches.Nodes.List().FirstOrDefault(n => ResourceObjects.HostnameOf(n) == host)?.Metadata.Name
                : null
        );

    /// <summary>The nodes that could serve a claim and hand its devices on, with what its ResourceClaim asks for on all of them.</summary>
    public Candidates Find(ClaimToPlace toPlace, string? onlyNode)
    {
        IReadOnlyList<NodeAllocation> ranked = view.Rank(toPlace, onlyNode, ResourceObjects.MostCandidates, out string refusal);
        HashSet<string>? names = dra.Find(toPlace.Claim) is { } resource ? [.. ResourceObjects.Requests(resource)] : null;
        var hosts = new List<(string Node, string Hostname)>();
        foreach (NodeAllocation allocation in ranked)
        {
            if (
                caches.PciNodes.Get(allocation.Node) is not { Status: not null } node
                || ResourceObjects.HostnameOf(caches.Nodes.Get(allocation.Node)) is not { } host
            )
            {
                continue;
            }

            // A ResourceClaim's requests can't be changed, so that all candidates have as many companions.
            HashSet<string>? offered = NamesOn(toPlace.Claim, allocation, node);
            if (offered is not null && (names ??= offered).SetEquals(offered))
                hosts.Add((allocation.Node, host));
        }

        return new Candidates(
            names ?? [],
            hosts,
            ranked.Count == 0
                ? refusal
                : $"{Counted.Of(ranked.Count, "node")} could serve it, and none can hand it on: a candidate has the label {ResourceObjects.HostnameLabel}, and as many companions as the claim's ResourceClaim asks for"
        );
    }

    private static HashSet<string>? NamesOn(PassthroughClaim claim, NodeAllocation allocation, PciNode node)
    {
        try
        {
            return ResourceObjects.Offered(AssignmentBuilder.Of(claim, allocation, Reports.Readable(node)).Devices)?.Values.ToHashSet();
        }
        catch (PlacementConflictException)
        {
            return null; // it has changed since; that brings the claim here again
        }
    }
}

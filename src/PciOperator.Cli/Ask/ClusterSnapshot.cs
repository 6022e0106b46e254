using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Kubernetes;
using PciOperator.Placement;

namespace PciOperator.Cli.Ask;

/// <summary>The cluster at one moment, in the very view that the controller decides with.</summary>
internal sealed class ClusterSnapshot
{
    private const string SimulatedUid = "simulated";
    private readonly DateTimeOffset _now;

    private ClusterSnapshot(DateTimeOffset now) => _now = now;

    /// <summary>What the allocator sees.</summary>
    public ClusterView View { get; } = new();

    public required IReadOnlyList<V1Node> Nodes { get; init; }

    public required IReadOnlyList<PciNode> PciNodes { get; init; }

    public required IReadOnlyList<PciAlias> Aliases { get; init; }

    public required IReadOnlyList<PassthroughClaim> Claims { get; init; }

    /// <summary>The nodes whose agent is ready; null: the caller may not see the agents' pods.</summary>
    public required IReadOnlySet<string>? ReadyAgents { get; init; }

    /// <summary>Reads all of it. What the caller may not read is an error, but for the agents' pods: those are then taken to be ready.</summary>
    public static async Task<ClusterSnapshot> LoadAsync(Session session)
    {
        Task<IReadOnlyList<V1Node>> nodes = session.ListAsync<V1Node>();
        Task<IReadOnlyList<PciNode>> pciNodes = session.ListAsync<PciNode>();
        Task<IReadOnlyList<PciAlias>> aliases = session.ListAsync<PciAlias>();
        Task<IReadOnlyList<PassthroughClaim>> claims = session.ListAsync<PassthroughClaim>();
        await Task.WhenAll(nodes, pciNodes, aliases, claims);
        ClusterSnapshot snapshot = Of(
            session.Io.Time.GetUtcNow(),
            await nodes,
            await session.ReadableAsync(await pciNodes),
            await aliases,
            await claims,
            await ReadyAgentsAsync(session, await pciNodes)
        );
        if (snapshot.ReadyAgents is null)
            await session.WarnAsync("you may not see the agents' pods: every agent is taken to be ready");
        return snapshot;
    }

    /// <summary>What has been read already.</summary>
    public static ClusterSnapshot Of(
        DateTimeOffset now,
        IReadOnlyList<V1Node> nodes,
        IReadOnlyList<PciNode> pciNodes,
        IReadOnlyList<PciAlias> aliases,
        IReadOnlyList<PassthroughClaim> claims,
        IReadOnlySet<string>? readyAgents
    )
    {
        var snapshot = new ClusterSnapshot(now)
        {
            Nodes = nodes,
            PciNodes = pciNodes,
            Aliases = aliases,
            Claims = claims,
            ReadyAgents = readyAgents,
        };
        snapshot.Fill();
        return snapshot;
    }

    /// <summary>The namespace of the agents, as PciNodes say it.</summary>
    public static string AgentsNamespaceOf(IEnumerable<PciNode> nodes) =>
        nodes.Select(n => n.GetAnnotation(Installation.AgentsAnnotation)).FirstOrDefault(a => !string.IsNullOrWhiteSpace(a))?.Trim()
        ?? Installation.AgentsNamespace;

    /// <summary>A claim that nobody makes.</summary>
    public static PassthroughClaim Imagine(PassthroughClaimSpec spec, string ns) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = SimulatedUid,
                NamespaceProperty = ns,
                Uid = SimulatedUid,
            },
            Spec = spec,
        };

    /// <summary>A claim with what it asks for.</summary>
    public ClaimToPlace ToPlace(PassthroughClaim claim)
    {
        try
        {
            return new ClaimToPlace(claim, claim.ToRequirements(View.Alias, _now));
        }
        catch (KeyNotFoundException unknown)
        {
            string known = string.Join(", ", Aliases.Select(a => a.Metadata.Name));
            throw new CliException(
                ExitCodes.NotFound,
                $"There is no usable PciAlias {unknown.Message}; there are: {(known.Length > 0 ? known : "none")}."
            );
        }
    }

    /// <summary>The claims that a claim has to be together with.</summary>
    public CoLocation GroupOf(PassthroughClaim claim) =>
        CoLocation.GroupOf(
            claim,
            (name, ns) => Claims.FirstOrDefault(c => c.Metadata.Name == name && c.Metadata.NamespaceProperty == ns),
            named => Claims.Where(c => (c.Spec.CoLocateWith ?? []).Any(other => $"{c.Metadata.NamespaceProperty}/{other}" == named))
        );

    private static async Task<IReadOnlySet<string>?> ReadyAgentsAsync(Session session, IReadOnlyList<PciNode> nodes)
    {
        string ns = AgentsNamespaceOf(nodes);
        try
        {
            EntityList<V1Pod> pods = await session.Client.ListAsync<V1Pod>(
                ns,
                new ListOptions { LabelSelector = Installation.AgentSelector },
                session.Ct
            );
            return ReadyOf(pods.Items);
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            return null;
        }
    }

    /// <summary>The nodes that have an agent's pod that is ready.</summary>
    public static IReadOnlySet<string> ReadyOf(IEnumerable<V1Pod> agents) =>
        agents.Where(AgentPods.IsReady).Select(p => p.Spec?.NodeName).OfType<string>().ToHashSet();

    private void Fill()
    {
        foreach (V1Node node in Nodes)
            View.SetNode(node.Metadata.Name, node);
        foreach (PciNode node in PciNodes)
            View.SetPciNode(node.Metadata.Name, node);
        foreach (PciAlias alias in Aliases)
            View.SetAlias(alias.Metadata.Name, AliasUse.Usable(alias));
        foreach (string node in Nodes.Select(n => n.Metadata.Name).Where(n => ReadyAgents is null || ReadyAgents.Contains(n)))
            View.SetAgentReady(node, true);
    }
}

using k8s.Models;

namespace PciOperator.Api;

/// <summary>
/// One installation of the programs. A cluster is one installation's: its controller marks every PciNode with what is here, and programs of
/// another installation that find such marks stay still. The mark is an annotation, so that an administrator can hand the cluster over.
/// </summary>
/// <param name="Controller">The controller's namespace and lease: <c>NAMESPACE/LEASE</c>.</param>
/// <param name="AgentNamespace">The namespace of the agents.</param>
public sealed record Installation(string Controller, string AgentNamespace)
{
    /// <summary>The annotation of a PciNode that says whose it is: <c>NAMESPACE/LEASE</c> of the controller.</summary>
    public const string Annotation = PciOperatorApi.Group + "/installation";

    /// <summary>The annotation of a PciNode that says in which namespace its agent is.</summary>
    public const string AgentsAnnotation = PciOperatorApi.Group + "/agents";

    /// <summary>The namespace of the controller in <c>config/</c>.</summary>
    public const string ControllerNamespace = "pcioperator-controller";

    /// <summary>The namespace of the agents in <c>config/</c>.</summary>
    public const string AgentsNamespace = "pcioperator-system";

    /// <summary>Labels of the agents' pods in <c>config/</c>.</summary>
    public const string AgentSelector = "app.kubernetes.io/name=pcioperator,app.kubernetes.io/component=agent";

    /// <summary>The controller's lease in <c>config/</c>.</summary>
    public const string Lease = "pcioperator-controller";

    /// <summary>The installation of <c>config/</c>.</summary>
    public static Installation Default { get; } = new($"{ControllerNamespace}/{Lease}", AgentsNamespace);

    /// <summary>Whose a PciNode is; null: nobody has marked it yet.</summary>
    public static string? OwnerOf(PciNode node) => Text(node, Annotation);

    /// <summary>
    /// Whose a cluster is; null: nobody's yet. Where marks differ, as when two controllers have begun at the same moment or somebody hands
    /// the cluster over, the oldest PciNode's counts: everybody sees the same one.
    /// </summary>
    public static string? OwnerOf(IEnumerable<PciNode> nodes) =>
        nodes
            .Where(n => OwnerOf(n) is not null)
            .OrderBy(n => n.Metadata.CreationTimestamp)
            .ThenBy(n => n.Metadata.Uid, StringComparer.Ordinal)
            .Select(OwnerOf)
            .FirstOrDefault();

    /// <summary>The marks as annotations.</summary>
    public Dictionary<string, string> Marks =>
        new Dictionary<string, string> { [Annotation] = Controller, [AgentsAnnotation] = AgentNamespace };

    /// <summary>Whether a PciNode has this installation's marks.</summary>
    public bool HasMarked(PciNode node) => Text(node, Annotation) == Controller && Text(node, AgentsAnnotation) == AgentNamespace;

    /// <summary>Why an agent of this installation must leave a PciNode alone; null: it is its own, or nobody's yet.</summary>
    public string? WhyNotAgentOf(PciNode node)
    {
        (string? owner, string? agents) = (OwnerOf(node) ?? Controller, Text(node, AgentsAnnotation) ?? AgentNamespace);
        return owner == Controller && agents == AgentNamespace
            ? null
            : $"PciNode {node.Metadata.Name} belongs to installation {owner} with agents in namespace {agents}, and this agent is of {Controller} in namespace {AgentNamespace}: "
                + "it takes nothing, gives nothing back and writes nothing";
    }

    private static string? Text(PciNode node, string annotation) =>
        node.GetAnnotation(annotation) is { } text && text.Trim() is { Length: > 0 } said ? said : null;
}

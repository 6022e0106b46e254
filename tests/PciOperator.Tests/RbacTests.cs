using System.Reflection;
using PciOperator.Agent;
using PciOperator.Controller;
using PciOperator.Kubernetes.Schema;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Tests;

/// <summary>The roles in <c>config/</c> have just the verbs that the programs say they use.</summary>
public sealed class RbacTests
{
    [Fact]
    public void The_controller_has_the_verbs_that_it_uses() => Compare(typeof(PciController).Assembly, "controller-rbac.yaml");

    [Fact]
    public void The_agent_has_the_verbs_that_it_uses() => Compare(typeof(NodeAgent).Assembly, "agent-rbac.yaml");

    /// <summary>Roles that no program has: what they are to give, and nothing else.</summary>
    [Theory]
    [InlineData("config/program/tenant-roles.yaml", "pcioperator-view", "passthroughclaims pcialiases", "get list watch")]
    [InlineData("config/program/tenant-roles.yaml", "pcioperator-edit", "passthroughclaims", Everything)]
    [InlineData("config/program/tenant-roles.yaml", "pcioperator-admin", "passthroughclaims", Everything)]
    [InlineData(
        "config/samples/kubectl-pci/job.yaml",
        "kubectl-pci",
        "passthroughclaims pcialiases pcidevicespecs pcinodes pciquotas",
        "get list watch"
    )]
    public void People_have_the_verbs_that_they_need(string file, string role, string resources, string verbs) =>
        Assert.Equal(
            resources.Split(' ').SelectMany(r => verbs.Split(' ').Select(v => $"{v} {r}.pcioperator.io")).Order(StringComparer.Ordinal),
            Given(Path.Combine(Kubectl.Repository, file), role).Order(StringComparer.Ordinal)
        );

    private const string Everything = "get list watch create update patch delete deletecollection";

    private static void Compare(Assembly program, string file)
    {
        IEnumerable<string> used = program
            .GetTypes()
            .SelectMany(t => t.GetCustomAttributes<EntityRbacAttribute>())
            .SelectMany(a => a.Resources.Split(',').SelectMany(r => a.Verbs.Split(',').Select(v => $"{v} {r}.{a.Group}")));
        IEnumerable<string> given = Given(Path.Combine(Kubectl.Repository, "config", "program", file));
        Assert.Equal(used.Distinct().Order(StringComparer.Ordinal), given.Distinct().Order(StringComparer.Ordinal));
    }

    /// <summary>What the roles in a file give, or one of them.</summary>
    private static IEnumerable<string> Given(string file, string? role = null) =>
        Helm.Read(File.ReadAllText(file))
            .Where(o => o.Children.ContainsKey("rules") && (role is null || ((YamlMappingNode)o["metadata"])["name"].ToString() == role))
            .SelectMany(o => (YamlSequenceNode)o["rules"])
            .Cast<YamlMappingNode>()
            .SelectMany(r =>
                Words(r, "resources")
                    .SelectMany(resource =>
                        Words(r, "verbs").SelectMany(verb => Words(r, "apiGroups").Select(group => $"{verb} {resource}.{group}"))
                    )
            );

    private static IEnumerable<string> Words(YamlMappingNode rule, string key) =>
        ((YamlSequenceNode)rule[key]).Select(n => ((YamlScalarNode)n).Value!);
}

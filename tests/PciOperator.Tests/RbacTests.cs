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

    private static void Compare(Assembly program, string file)
    {
        IEnumerable<string> used = program
            .GetTypes()
            .SelectMany(t => t.GetCustomAttributes<EntityRbacAttribute>())
            .SelectMany(a => a.Resources.Split(',').SelectMany(r => a.Verbs.Split(',').Select(v => $"{v} {r}.{a.Group}")));
        var yaml = new YamlStream();
        yaml.Load(new StringReader(File.ReadAllText(Path.Combine(Kubectl.Repository, "config", "program", file))));
        IEnumerable<string> given = yaml
            .Documents.Select(d => (YamlMappingNode)d.RootNode)
            .Where(d => d.Children.ContainsKey("rules"))
            .SelectMany(d => (YamlSequenceNode)d["rules"])
            .Cast<YamlMappingNode>()
            .SelectMany(r =>
                Words(r, "resources")
                    .SelectMany(resource =>
                        Words(r, "verbs").SelectMany(verb => Words(r, "apiGroups").Select(group => $"{verb} {resource}.{group}"))
                    )
            );
        Assert.Equal(used.Distinct().Order(StringComparer.Ordinal), given.Distinct().Order(StringComparer.Ordinal));
    }

    private static IEnumerable<string> Words(YamlMappingNode rule, string key) =>
        ((YamlSequenceNode)rule[key]).Select(n => ((YamlScalarNode)n).Value!);
}

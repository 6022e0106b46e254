using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using k8s.Models;
using PciOperator.CrdGenerator;
using PciOperator.Kubernetes.Schema;
using PciOperator.Sandbox.Validation;

namespace PciOperator.Api.Tests;

public class CrdTests
{
    [Fact]
    public void The_crds_that_are_shipped_are_what_the_records_say()
    {
        Type[] kinds = [typeof(PassthroughClaim), typeof(PciAlias), typeof(PciDeviceSpec), typeof(PciNode), typeof(PciQuota)];
        Assert.Equal(kinds.Select(k => new CustomResourceDefinition(k).ToYaml()), SandboxCrds.All);
    }

    [Fact]
    public void A_field_without_a_description_or_a_limit_is_not_generated()
    {
        IncompleteSchemaException error = Assert.Throws<IncompleteSchemaException>(() =>
            new CustomResourceDefinition(typeof(Incomplete)).ToYaml()
        );
        Assert.Equal(
            [
                "The schema of Incomplete is incomplete:",
                "  Incomplete.undescribed has no description: give it a <summary>",
                "  Incomplete.text is a string without a [Length]",
                "  Incomplete.list is a list without an [Items]",
                "  Incomplete.list[] is a string without a [Length]",
                "  Incomplete.map is a map without an [Items]",
            ],
            error.Message.Split('\n')
        );
    }

    [Fact]
    public void Rules_are_left_out_where_only_programs_write()
    {
        Assert.Contains("x-kubernetes-validations", new CustomResourceDefinition(typeof(PciDeviceSpec)).ToYaml());
        Assert.DoesNotContain("x-kubernetes-validations", new CustomResourceDefinition(typeof(PciNode)).ToYaml());
    }

    [Fact]
    public void What_the_rules_let_in_can_be_parsed()
    {
        var random = new RandomObjects(5);
        for (int i = 0; i < 2000; i++)
        {
            PciDeviceSpec? spec = Record(random.DeviceSpec(), PciOperatorJsonContext.Default.PciDeviceSpec, "PciDeviceSpec");
            // An expression that RE2 need not know is the controller's to judge.
            if (
                spec is not null
                && !spec.Spec.Devices.Any(d =>
                    d.AddressPattern is { } p && string.Concat(p.Domain, p.Bus, p.Slot, p.Function).Contains('\\')
                )
            )
            {
                spec.Spec.ToDeviceRule("random");
            }

            Record(random.Alias(), PciOperatorJsonContext.Default.PciAlias, "PciAlias")?.ToDefinition();
        }
    }

    // Null when it breaks a rule.
    private static T? Record<T>(JsonObject obj, JsonTypeInfo<T> type, string kind)
        where T : class =>
        OwnResourceRules.Validators[new("pcioperator.io", kind)](obj, null).Any() ? null : JsonSerializer.Deserialize(obj, type);
}

/// <summary>A kind that lacks much.</summary>
[KubernetesEntity(Group = "pcioperator.io", ApiVersion = "v1", Kind = "Incomplete", PluralName = "incompletes")]
public sealed record Incomplete
{
    [Length(0, 1)]
    public string? Undescribed { get; set; }

    /// <summary>A text.</summary>
    public string? Text { get; set; }

    /// <summary>A list.</summary>
    public IReadOnlyList<string>? List { get; set; }

    /// <summary>A map.</summary>
    [Length(0, 1)]
    public IReadOnlyDictionary<string, string>? Map { get; set; }
}

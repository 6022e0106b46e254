using System.Reflection;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Tests;

/// <summary>What a PciDeviceSpec says, a rule of a PciNode repeats: all of it, also what is added tomorrow.</summary>
public class RuleCopyTests
{
    [Fact]
    public void A_rule_has_every_property_of_its_specs_policy()
    {
        var spec = new PciDeviceSpec
        {
            Metadata = new() { Name = "nic" },
            Spec = new PciDeviceSpecSpec(),
        };
        PropertyInfo[] properties =
        [
            .. typeof(DevicePolicy).GetProperties().Where(p => p.CanWrite && p.Name != nameof(DevicePolicy.GuardOverrides)),
        ];
        foreach (PropertyInfo property in properties)
            property.SetValue(spec.Spec, Other(property.PropertyType));
        spec.Spec.GuardOverrides =
        [
            new() { NodeName = "here", Address = "0000:21:00.0" },
            new() { NodeName = "there", Address = "0000:21:00.0" },
        ];
        PciNodeRule rule = PciNodeRules.Of(spec, "here");
        Assert.Equal("nic", rule.Name);
        Assert.All(properties, p => Assert.Equal(p.GetValue(spec.Spec), p.GetValue(rule)));
        Assert.Equal("here", Assert.Single(rule.GuardOverrides!).NodeName);
    }

    [Fact]
    public void An_alias_that_asks_for_vdpa_is_told_what_it_may_ask_for()
    {
        var alias = new PciAlias
        {
            Metadata = new() { Name = "dpu" },
            Spec = new()
            {
                Devices =
                [
                    new()
                    {
                        VendorId = "15b3",
                        ProductId = "101e",
                        DeviceType = DeviceType.Vdpa,
                    },
                ],
            },
        };
        SpecFormatException error = Assert.Throws<SpecFormatException>(() => alias.ToDefinition());
        Assert.Contains("type-PCI, type-PF or type-VF", error.Message, StringComparison.Ordinal);
    }

    /// <summary>A value that the property has not by itself.</summary>
    private static object Other(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(bool) ? false
            : type == typeof(string) ? "other"
            : type.IsEnum ? Enum.GetValues(type).GetValue(1)!
            : type == typeof(SriovSpec) ? new SriovSpec { NumVfs = 4 }
            : type == typeof(IReadOnlyDictionary<string, string>) ? new Dictionary<string, string> { ["a"] = "b" }
            : Array.CreateInstance(type.GenericTypeArguments[0], 1);
    }
}

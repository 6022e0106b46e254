using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>A PciNode's rules, parsed. A rule that can't be parsed matches nothing; the controller says so on its PciDeviceSpec.</summary>
internal sealed class CompiledRules
{
    private readonly List<DeviceRule> _rules = [];
    private readonly Dictionary<string, PciNodeRule> _policies = [];

    public static CompiledRules Of(IReadOnlyList<PciNodeRule>? rules)
    {
        var compiled = new CompiledRules();
        foreach (PciNodeRule rule in rules ?? [])
        {
            try
            {
                compiled._rules.Add(rule.ToDeviceRule());
                compiled._policies[rule.Name] = rule;
            }
            catch (SpecFormatException)
            {
                // Named in the PciDeviceSpec's condition.
            }
        }

        return compiled;
    }

    /// <summary>The first rule that matches each function, by name.</summary>
    public IReadOnlyDictionary<PciAddress, string> Match(HostSnapshot snapshot) =>
        DeviceMatcher.Match([.. snapshot.Functions.Select(f => f.Function)], _rules).ToDictionary(p => p.Key, p => p.Value.Name);

    /// <summary>What a rule says.</summary>
    public PciNodeRule Policy(string name) => _policies[name];
}

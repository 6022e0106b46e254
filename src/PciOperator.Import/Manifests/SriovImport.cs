using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>
/// SriovNetworkNodePolicies of the SR-IOV network operator: a PciDeviceSpec for each, and a PciAlias for each resourceName. The pool that a
/// resourceName is there is a resource class here.
/// </summary>
public static class SriovImport
{
    private const string Group = "sriovnetwork.openshift.io";

    // There the lowest number wins, and it is 0 to 99.
    private const int WeakestPriority = 99;

    /// <summary>Reads files.</summary>
    public static ImportResult Read(IReadOnlyList<SourceFile> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        var draft = new ImportDraft();
        var policies = new List<SriovPolicy>();
        foreach (SourceObject manifest in files.SelectMany(f => SourceObject.ReadAll(f, draft)))
        {
            if (manifest is not { ApiGroup: Group, Kind: "SriovNetworkNodePolicy" })
            {
                draft.Notes.Add(OfOther(manifest));
                continue;
            }

            try
            {
                if (SriovPolicy.Of(manifest) is { } policy)
                {
                    policies.Add(policy);
                }
                else
                {
                    draft.Notes.Add(
                        $"{manifest.File}:{manifest.Line}: {Text.Shorten(manifest.Name)} is left out: it selects no NIC, as the operator's own policy 'default'."
                    );
                }
            }
            catch (ManifestException e)
            {
                draft.Refuse(manifest.File, e.Line, $"{Text.Shorten(manifest.Name)}: {e.Message}");
            }
            catch (SpecFormatException e)
            {
                draft.Refuse(manifest.File, manifest.Line, $"{Text.Shorten(manifest.Name)}: {e.Message}");
            }
        }

        foreach (SriovPolicy policy in policies)
            AddSpec(draft, policy, policies);
        AddAliases(draft, policies);
        return draft.Result(files);
    }

    private static void AddSpec(ImportDraft draft, SriovPolicy policy, IReadOnlyList<SriovPolicy> all)
    {
        var notes = new List<string> { $"{policy.Place}: SriovNetworkNodePolicy {Text.Shorten(policy.Name)}" };
        notes.AddRange(policy.Notes);
        SriovPolicy[] sharing = [.. all.Where(o => o != policy && o.Ranged.Intersect(policy.Ranged).Any())];
        if (sharing.Length > 0)
        {
            notes.Add(
                $"{string.Join(", ", policy.Ranged)} is shared with {string.Join(", ", sharing.Select(s => Text.Shorten(s.Name)))}: of specs that match one device the first has it whole, so one of them has all of the port's VFs and the others none. Make one spec of them, or list VFs by their own addresses."
            );
        }

        var spec = new PciDeviceSpecSpec
        {
            NodeSelector = policy.NodeSelector.Count == 0 ? null : policy.NodeSelector,
            Priority = WeakestPriority - policy.Priority,
            Devices = policy.Devices,
            Sriov = policy.NumVfs is { } count ? new SriovSpec { NumVfs = count } : null,
            ResourceClass = policy.ResourceClass,
        };
        draft.Add(policy.Place, ObjectNames.Label(policy.Name, "sriov"), spec, notes);
    }

    private static void AddAliases(ImportDraft draft, IReadOnlyList<SriovPolicy> policies)
    {
        foreach (IGrouping<string, SriovPolicy> resource in policies.GroupBy(p => p.ResourceName, StringComparer.Ordinal))
        {
            string name = draft.AliasNames.Unique(ObjectNames.Label(resource.Key, "vfs"));
            var notes = new List<string>
            {
                $"{string.Join(", ", resource.Select(p => p.Place))}: resourceName {Text.Shorten(resource.Key)}. Its VFs are asked for by a claim with alias {name}, no longer by an extended resource of a pod.",
            };
            if (policies.Any(p => p.ResourceName != resource.Key && p.ResourceClass == resource.First().ResourceClass))
            {
                notes.Add(
                    $"Another resourceName gives the same resource class, {resource.First().ResourceClass}: change one of them in its PciDeviceSpec and here."
                );
            }

            draft.Add(
                resource.First().Place,
                name,
                new PciAliasSpec
                {
                    Devices = [new AliasDevice { ResourceClass = resource.First().ResourceClass, DeviceType = DeviceType.Vf }],
                },
                notes
            );
        }
    }

    private static string OfOther(SourceObject other)
    {
        string why = other.Kind switch
        {
            "SriovNetwork" or "SriovIBNetwork" or "OVSNetwork" =>
                "it is for CNI, which gives a pod a network interface: VLAN, MAC, rate and trust of a VF that a VM gets whole are set in the guest, or on its PF",
            "SriovNetworkNodeState" => "it says what the operator did on a node; kubectl get pn says it here",
            "SriovOperatorConfig" or "SriovNetworkPoolConfig" =>
                "it says how the operator works and drains nodes; here VFs are made anew only while nobody has one",
            _ => "only SriovNetworkNodePolicy is read here",
        };
        return $"{other.File}:{other.Line}: {Text.Shorten(other.Kind)} {Text.Shorten(other.Name)} is left out: {why}.";
    }
}

using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary>
/// Flavors as <c>openstack flavor list --long -f json</c>, <c>openstack flavor show -f json</c> and Nova's own API write them: for each that
/// asks for PCI devices a PassthroughClaim, to copy for each VM.
/// </summary>
public static class FlavorImport
{
    private const string AliasProperty = "pci_passthrough:alias";
    private const string PolicyProperty = "hw:pci_numa_affinity_policy";

    // What gives a guest a NUMA topology in Nova; without one no policy counts there.
    private static readonly string[] Topology =
    [
        "hw:numa_",
        "hw:mem_page_size",
        "hw:cpu_policy",
        "hw:cpu_dedicated_mask",
        "hw:cpu_realtime",
        "hw:emulator_threads_policy",
        "hw:pmem",
        "resources:PCPU",
    ];

    /// <summary>Reads flavors.</summary>
    /// <param name="files">The files.</param>
    /// <param name="novaConf">
    /// The nova.conf that defines the aliases: an alias that it doesn't is an error, and one that had to get another name is asked for by that.
    /// </param>
    public static ImportResult Read(IReadOnlyList<SourceFile> files, IReadOnlyList<SourceFile>? novaConf = null)
    {
        ArgumentNullException.ThrowIfNull(files);
        var draft = new ImportDraft();
        IReadOnlyDictionary<string, string>? aliases = novaConf is null ? null : NovaConfImport.AliasNames(novaConf);
        var without = new List<string>();
        foreach (SourceFile file in files)
        {
            try
            {
                foreach (Flavor flavor in Flavor.ReadAll(file))
                    Take(draft, file, flavor, aliases, without);
            }
            catch (SpecFormatException e)
            {
                draft.Refuse(file.Name, null, e.Message);
            }
        }

        if (without.Count > 0)
            draft.Notes.Add($"Flavors that ask for no PCI device: {string.Join(", ", without)}.");
        draft.Notes.Insert(
            0,
            "One claim for each flavor, as a pattern: a claim that is applied takes its devices at once, and holds them until it is deleted. Copy it under a name of its own for each VM."
        );
        return draft.Result(files);
    }

    private static void Take(
        ImportDraft draft,
        SourceFile file,
        Flavor flavor,
        IReadOnlyDictionary<string, string>? aliases,
        List<string> without
    )
    {
        if (flavor.Properties is null)
        {
            draft.Refuse(file.Name, null, $"flavor {Text.Shorten(flavor.Name)} has no properties: list flavors with --long");
            return;
        }

        if (!flavor.Properties.TryGetValue(AliasProperty, out string? text))
        {
            without.Add(Text.Shorten(flavor.Name));
            return;
        }

        try
        {
            PassthroughClaimSpec spec = SpecOf(flavor.Properties, text, aliases, out List<string> notes);
            draft.Add(
                new Place(file.Name, null),
                ObjectNames.Label(flavor.Name, "flavor"),
                spec,
                [$"{file.Name}: flavor {Text.Shorten(flavor.Name)}, {AliasProperty} {Text.Shorten(text)}", .. notes]
            );
        }
        catch (SpecFormatException e)
        {
            draft.Refuse(file.Name, null, $"flavor {Text.Shorten(flavor.Name)}: {e.Message}");
        }
    }

    private static PassthroughClaimSpec SpecOf(
        IReadOnlyDictionary<string, string> properties,
        string text,
        IReadOnlyDictionary<string, string>? aliases,
        out List<string> notes
    )
    {
        notes = [];
        IReadOnlyList<ClaimRequest> requests = FlavorRequests.Of(NovaRequestString.Parse(text), aliases, notes);
        string? policy = properties.GetValueOrDefault(PolicyProperty);
        var spec = new PassthroughClaimSpec { Requests = requests, NumaPolicy = NovaRequestString.EffectivePolicy(policy, null) };
        if (!properties.Keys.Any(k => Topology.Any(t => k.StartsWith(t, StringComparison.Ordinal))))
        {
            spec.GuestNuma = Api.GuestNuma.None;
            notes.Add(
                "The flavor gives its guests no NUMA topology, and then no NUMA policy counts in Nova. Take guestNuma out where the image gives one, or where the policy shall count."
            );
        }

        notes.AddRange(NotesOfOthers(properties));
        return spec;
    }

    private static IEnumerable<string> NotesOfOthers(IReadOnlyDictionary<string, string> properties)
    {
        var others = new List<string>();
        foreach ((string key, string value) in properties.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            if (key is AliasProperty or PolicyProperty)
                continue;
            if (key is "hide_hypervisor_id" or "hw:hide_hypervisor_id")
                yield return $"{key}: say hideHypervisor: true in the PciAlias.";
            else if (key.StartsWith("aggregate_instance_extra_specs:", StringComparison.Ordinal))
                yield return $"{Text.Shorten(key)} = {Text.Shorten(value)} is left out: label the nodes of the aggregate and name the label in the claim's nodeSelector.";
            else if (key.StartsWith("resources", StringComparison.Ordinal) || key.StartsWith("trait", StringComparison.Ordinal))
                yield return $"{Text.Shorten(key)} = {Text.Shorten(value)} is left out: there is no Placement here. A resource class or trait of PCI devices goes into a PciAlias.";
            else if (key.StartsWith("accel:", StringComparison.Ordinal))
                yield return $"{Text.Shorten(key)} = {Text.Shorten(value)} is left out: it is Cyborg's. List the device in a PciDeviceSpec and ask for it by an alias.";
            else
                others.Add(Text.Shorten(key));
        }

        if (others.Count > 0)
            yield return $"For the VM to say, not the claim: {string.Join(", ", others)}.";
    }
}

using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary>Notes of other options that change what the PCI options mean, and of lines that look like PCI options and are none.</summary>
internal static class SettingNotes
{
    internal const string ReportInPlacement = "report_in_placement";

    private static readonly OsloName[] Filters =
    [
        new("filter_scheduler", "enabled_filters"),
        new("filter_scheduler", "scheduler_default_filters"),
        new(OsloFile.DefaultGroup, "scheduler_default_filters"),
    ];

    /// <summary>Adds them.</summary>
    public static void Add(
        ImportDraft draft,
        OsloConfig config,
        IReadOnlyList<OsloName> specs,
        IReadOnlyList<OsloName> aliases,
        IReadOnlyList<OsloFile> files
    )
    {
        IfTrue(
            new OsloName(NovaConfImport.Pci, ReportInPlacement),
            "devices are not reported to Placement here. Claims are decided on the devices themselves; a PF and its VFs may both be listed, and VFs of one PF may differ in class and traits."
        );
        IfTrue(
            new OsloName("filter_scheduler", "pci_in_placement"),
            "aliases ask for resource class and traits beside the ids, as they do with it in Nova; several values of one name, which Nova refuses with it, are any of these here."
        );
        if (Filters.Select(config.Last).FirstOrDefault(f => f is not null) is { } filters)
            AddFilters(draft, filters);
        If(
            new OsloName("filter_scheduler", "pci_weight_multiplier"),
            "is left out: claims go to nodes with fewer free devices first, as in Nova with a weight above 0."
        );
        foreach (string key in (ReadOnlySpan<string>)["enabled_mdev_types", "enabled_vgpu_types"])
            If(new OsloName("devices", key), "can't be carried over: vGPUs are mediated devices, not PCI functions.");
        foreach (OsloAssignment odd in files.SelectMany(f => f.Assignments))
        {
            if (WhyNotRead(odd, specs, aliases) is { } why)
                draft.Notes.Add($"{odd.File}:{odd.Line}: {Text.Shorten(odd.Key)} is left out: {why}");
        }

        void If(OsloName name, string note)
        {
            if (config.Last(name) is { } found)
                draft.Notes.Add($"{found.File}:{found.Line}: {found.Key} = {Text.Shorten(found.Value)}: {note}");
        }

        void IfTrue(OsloName name, string note)
        {
            if (config.Boolean(name) == true)
                If(name, note);
        }
    }

    private static void AddFilters(ImportDraft draft, OsloAssignment filters)
    {
        string[] names = filters.Value.Split([',', '\n'], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        foreach (
            (string filter, string note) in (ReadOnlySpan<(string, string)>)
                [
                    ("PciPassthroughFilter", "Nova's scheduler does not look at PCI devices; here a claim always does."),
                    (
                        "NUMATopologyFilter",
                        "Nova's scheduler does not look at NUMA nodes; here a claim's and an alias' NUMA policy always counts."
                    ),
                ]
        )
        {
            if (!names.Any(n => n == filter || n.EndsWith("." + filter, StringComparison.Ordinal)))
                draft.Notes.Add($"{filters.File}:{filters.Line}: {filters.Key} is without {filter}: {note}");
        }
    }

    private static string? WhyNotRead(OsloAssignment a, IReadOnlyList<OsloName> specs, IReadOnlyList<OsloName> aliases)
    {
        if (specs.Concat(aliases).Any(n => n.Group == a.NormalGroup && n.Name == a.Key))
            return null;
        string key = a.Key.ToLowerInvariant().Replace('-', '_');
        OsloName? meant = specs.Concat(aliases).Cast<OsloName?>().FirstOrDefault(n => n!.Value.Name == key);
        bool inPci = a.NormalGroup == NovaConfImport.Pci;
        if (meant is null || (key == "alias" && !inPci && a.Group.Trim().ToLowerInvariant() is not ("pci" or "default")))
        {
            return inPci && a.Key != ReportInPlacement ? "Nova has no such option in [pci] and does not read it." : null;
        }

        return $"Nova does not read it there. It reads {meant.Value.Name} in [{meant.Value.Group}], written so.";
    }
}

using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Cluster;

namespace PciOperator.Cli.Vms;

/// <summary>Whose the devices are that an entry of a VM's <c>resourceClaims</c> stands for.</summary>
internal enum ClaimSource
{
    /// <summary>Another driver's, or that can't be seen.</summary>
    Other,

    /// <summary>Ours.</summary>
    Own,

    /// <summary>There is nothing of that name.</summary>
    Missing,
}

/// <summary>What an entry of a VM's <c>resourceClaims</c> comes to.</summary>
internal sealed record ClaimUse
{
    /// <summary>The entry.</summary>
    public required GuestClaim Entry { get; init; }

    public required ClaimSource Source { get; init; }

    /// <summary>The claim; null: there is none (yet).</summary>
    public PassthroughClaim? Claim { get; init; }

    /// <summary>The ResourceClaim by which it is handed out; null: there is none, or it can't be seen.</summary>
    public Resourcev1ResourceClaim? Resource { get; init; }

    /// <summary>The names of its devices.</summary>
    public IReadOnlyList<RequestName> Names { get; init; } = [];

    /// <summary>What the VM names: a claim, or a template.</summary>
    public string Named =>
        Entry.ResourceClaimTemplateName is { Length: > 0 } template
            ? $"ResourceClaimTemplate {template}"
            : $"claim {Entry.ResourceClaimName}";

    /// <summary>The entries of a VM, each with what it comes to.</summary>
    public static IReadOnlyList<ClaimUse> Of(VmFacts facts, Guest guest) =>
        [
            .. guest.Wanted.Claims.Select(e =>
                e.ResourceClaimTemplateName is { Length: > 0 } template ? OfTemplate(facts, guest, e, template) : OfClaim(facts, guest, e)
            ),
        ];

    /// <summary>The names of the entries that stand for devices of ours.</summary>
    public static HashSet<string> OwnEntries(IReadOnlyList<ClaimUse> uses) =>
        [.. uses.Where(u => u.Source == ClaimSource.Own).Select(u => u.Entry.Name ?? "")];

    private static ClaimUse OfClaim(VmFacts facts, Guest guest, GuestClaim entry)
    {
        PassthroughClaim? claim = facts.ClaimOf(guest.Namespace, entry.ResourceClaimName);
        Resourcev1ResourceClaim? resource = facts.ResourceOf(guest.Namespace, entry.ResourceClaimName);
        return new ClaimUse
        {
            Entry = entry,
            Claim = claim,
            Resource = resource,
            Source =
                claim is not null ? ClaimSource.Own
                : resource is null && facts.ResourceClaims is not null ? ClaimSource.Missing
                : ClaimSource.Other,
            Names = claim is null ? [] : RequestName.Of(claim),
        };
    }

    private static ClaimUse OfTemplate(VmFacts facts, Guest guest, GuestClaim entry, string template)
    {
        ClaimTemplate? found = facts.Templates?.FirstOrDefault(t =>
            t.Metadata.NamespaceProperty == guest.Namespace && t.Metadata.Name == template
        );
        TemplateRequest[] own =
        [
            .. (found?.Spec?.Spec?.Devices?.Requests ?? []).Where(r => r?.Exactly?.DeviceClassName == DraNames.Driver),
        ];
        string? made = guest.Launcher?.Status?.ResourceClaimStatuses?.FirstOrDefault(s => s?.Name == entry.Name)?.ResourceClaimName;
        return new ClaimUse
        {
            Entry = entry,
            Source =
                own.Length > 0 ? ClaimSource.Own
                : found is null && facts.Templates is not null ? ClaimSource.Missing
                : ClaimSource.Other,
            Claim = facts.ClaimOf(guest.Namespace, made),
            Resource = facts.ResourceOf(guest.Namespace, made),
            Names =
            [
                .. own.Select(r => new RequestName(r.Name ?? "", null, r.Name?.Contains("-companion-", StringComparison.Ordinal) == true)),
            ],
        };
    }
}

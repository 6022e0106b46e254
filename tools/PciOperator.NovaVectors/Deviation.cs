using System.Text.RegularExpressions;

namespace PciOperator.NovaVectors;

/// <summary>A difference between Nova's answer and ours, as the rules see it: never by the case that it is in.</summary>
/// <param name="Kind">Which part of the answer.</param>
/// <param name="What">The same for people.</param>
/// <param name="Nova">Nova's answer; for an error its class and message.</param>
/// <param name="Ours">Ours; for an error its field and message.</param>
/// <param name="WeRefuse">Whether we refuse.</param>
/// <param name="NovaRefuses">Whether Nova refuses.</param>
public sealed record Difference(DifferenceKind Kind, string What, string Nova, string Ours, bool WeRefuse, bool NovaRefuses)
{
    /// <summary>The names of tags in the specs that a pool has as keys of its own.</summary>
    public bool ReservedTags { get; init; }

    /// <summary>Whether a remote-managed spec names, by its netdev, a PF for which the case does not say the product id of VFs.</summary>
    public bool VfProductUnsaid { get; init; }

    /// <summary>Whether Nova's tracker raised an error in the middle of a claim or rescan.</summary>
    public bool RaisedHalfWay { get; init; }

    /// <summary>Whether all that differs belongs to an instance that claimed again before its first claim was allocated.</summary>
    public bool ClaimLost { get; init; }

    /// <summary>Whether the pools are the same but for their tags, and a spec has a null tag.</summary>
    public bool NullTag { get; init; }

    /// <summary>Whether Nova says that it serves a request, and gives no device.</summary>
    public bool ServedNothing { get; init; }

    /// <summary>For a served request: whether the independent check found our devices right.</summary>
    public bool Sound { get; init; }
}

/// <summary>The part of an answer in which Nova and this project can differ.</summary>
public enum DifferenceKind
{
    Spec,
    Alias,
    Request,
    Pools,
    Requests,
    Verdict,
    State,
}

/// <summary>A way in which we differ from Nova on purpose.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Reason">Why we are right, or why it does not concern us.</param>
/// <param name="Accepts">Which differences it accepts.</param>
public sealed record Deviation(string Name, string Reason, Func<Difference, bool> Accepts)
{
    /// <summary>
    /// All of them. Where Nova stops at an error that a rule accepts, what we refuse in the rest of the line is not compared.
    /// </summary>
    public static IReadOnlyList<Deviation> All { get; } =
    [
        new(
            "one-time-use-without-placement",
            "Nova leaves the reservation to Placement and so refuses one_time_use without it; the controller here keeps it itself.",
            d =>
                d.Kind == DifferenceKind.Spec
                && d.Nova.Contains("one_time_use=true requires pci.report_in_placement", StringComparison.Ordinal)
        ),
        new(
            "any-of-with-placement",
            "Nova's Placement mode can't ask for one of several descriptions; here any-of aliases always work.",
            d =>
                d is { Kind: DifferenceKind.Alias or DifferenceKind.Request, WeRefuse: false }
                && d.Nova.Contains("multiple specs but", StringComparison.Ordinal)
        ),
        new(
            "placement-refusal",
            "Nova's Placement mode refuses a PF beside its VFs, differing siblings and network names; here PFs and VFs exclude each other by their owners.",
            d => d.NovaRefuses && d.Nova.StartsWith("PlacementPci", StringComparison.Ordinal)
        ),
        new(
            "wide-domain",
            "PCI domains have up to 32 bits (Intel VMD counts from 10000); Nova knows 16.",
            d => d.Kind == DifferenceKind.Spec && Regex.IsMatch(d.Nova, @"property domain \(\+?(0[xX])?[0-9a-fA-F_]{5,}\) is greater")
        ),
        new(
            "remote-managed-pf-address",
            "Nova bug: for a remote-managed spec with a PF's address it looks up the text of the address object, which is never found; here the PF's VFs are meant, and the product id must be theirs.",
            d =>
                d.Kind == DifferenceKind.Spec
                && d.Nova.StartsWith("PciDeviceNotFoundById", StringComparison.Ordinal)
                && d.Nova.Contains("Spec object", StringComparison.Ordinal)
        ),
        new(
            "vf-product-unsaid",
            "Nova reads the product id of a PF's VFs from sysfs; where a case does not say it, that of its VFs is taken here, and without VFs any id that is not the PF's.",
            d =>
                d is { Kind: DifferenceKind.Spec, WeRefuse: false, NovaRefuses: true, VfProductUnsaid: true }
                && (
                    d.Nova.StartsWith("PciDeviceInvalidPFRemoteManaged", StringComparison.Ordinal)
                    || d.Nova.Contains("do not match the expected VF IDs", StringComparison.Ordinal)
                )
        ),
        new(
            "resource-class-alias",
            "Nova takes an alias by resource class alone only with Placement; here the class is matched directly.",
            d =>
                d is { Kind: DifferenceKind.Alias or DifferenceKind.Request, WeRefuse: false }
                && d.Nova.StartsWith("PciInvalidAlias", StringComparison.Ordinal)
                && d.Nova.Contains("vendor_id", StringComparison.Ordinal)
                && d.Nova.Contains("product_id", StringComparison.Ordinal)
                && !d.Nova.Contains("does not match", StringComparison.Ordinal)
        ),
        new(
            "count-zero",
            "Nova bug: a count of 0 is accepted, and served only if some pool matches; here it is refused.",
            d =>
                d is { Kind: DifferenceKind.Request, WeRefuse: true }
                && d.Ours.StartsWith("count:", StringComparison.Ordinal)
                && d.Ours.Contains(" is 0;", StringComparison.Ordinal)
        ),
        new(
            "undescribed-alias",
            "Nova's Placement mode takes an alias that describes no device at all; here it must have ids or a resource class.",
            d =>
                d is { Kind: DifferenceKind.Alias or DifferenceKind.Request, WeRefuse: true, NovaRefuses: false }
                && d.Ours.Contains("or a resource_class", StringComparison.Ordinal)
        ),
        new(
            "reserved-tag",
            "Nova bug: a tag named like a key of the pool overwrites it; here such tags are kept apart.",
            d => d is { Kind: DifferenceKind.Pools, ReservedTags: true }
        ),
        new(
            "null-tag",
            "Nova bug: a null tag equals an absent one, so a device with one joins a like pool that has as many tags, another among them; here a null tag is no tag.",
            d => d is { Kind: DifferenceKind.Pools, NullTag: true }
        ),
        new(
            "nova-not-exact",
            "Nova bug: its greedy matching, or a pool that it forgot to refill, refuses or fails a request that can be served; its own way through its own pools is seen to fail, and ours passed the independent check.",
            d => d is { Kind: DifferenceKind.Verdict, WeRefuse: false, NovaRefuses: true, Sound: true }
        ),
        new(
            "raised-half-way",
            "Nova bug: its tracker raises an error in the middle of a claim or rescan and keeps what it had done so far, as its own pools and states foretell; what it had not in hand is compared at that step, the rest of the sequence is checked for the invariants alone.",
            d => d is { Kind: DifferenceKind.State, RaisedHalfWay: true }
        ),
        new(
            "served-nothing",
            "Nova bug: a pool goes on offering a device that is gone; where the tracker has no other left, the claim is served with none; here it is refused.",
            d => d is { Kind: DifferenceKind.Verdict, ServedNothing: true, WeRefuse: true }
        ),
        new(
            "claim-overwritten",
            "Nova bug: a second claim of an instance overwrites its first in the tracker's list, whose devices then stay claimed for ever; here an owner has all that it claimed.",
            d => d is { Kind: DifferenceKind.State, ClaimLost: true }
        ),
        new(
            "stored-dependents",
            "Nova bug: what an owner means for a PF and its VFs is stored and not always put back; here it follows from the owners.",
            d => d is { Kind: DifferenceKind.State, Sound: true }
        ),
    ];

    public static Deviation? For(Difference difference) => All.FirstOrDefault(d => d.Accepts(difference));
}

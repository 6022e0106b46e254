using System.Globalization;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>
/// What counts against quotas. A claim counts by what it asks for: as long as a PciNode's spec assigns devices to it, and as long as its
/// status names a node, which is until its devices are back; a reservation counts as the claim that it is for.
/// </summary>
internal sealed class QuotaUsage(ControllerCaches caches)
{
    /// <summary>What counts in a namespace.</summary>
    public QuotaBook Of(string ns, IEnumerable<QuotaReservation> reservations)
    {
        QuotaBook book = QuotaCounts.Book(
            caches.Claims.ByIndex(ControllerCaches.ByPlacedNamespace, ns),
            caches
                .PciNodes.ByIndex(ControllerCaches.ByAssignedNamespace, ns)
                .SelectMany(n => n.Spec.Assignments ?? [])
                .Where(a => a.ClaimNamespace == ns),
            uid => caches.Claims.ByIndex(ControllerCaches.ByUid, uid).FirstOrDefault()
        );
        foreach (QuotaReservation reservation in reservations.Where(r => r.Namespace == ns))
            book.Add(reservation.ClaimUid, Parse(reservation.Devices));
        return book;
    }

    /// <summary>The namespaces in which something counts.</summary>
    public IReadOnlySet<string> Namespaces() =>
        caches
            .PciNodes.List()
            .SelectMany(n => (n.Spec.Assignments ?? []).Select(a => a.ClaimNamespace))
            .Concat(caches.Claims.List().Where(c => c.Status?.NodeName is { Length: > 0 }).Select(c => c.Metadata.NamespaceProperty))
            .ToHashSet();

    /// <summary>As a reservation says it: <c>a1:2,a2:1</c>.</summary>
    public static string Text(DeviceCounts counts) =>
        string.Join(',', counts.ByAlias.OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => $"{p.Key}:{p.Value}"));

    // What can't be read counts as nothing: only a person's hand could have written it.
    private static DeviceCounts Parse(string text)
    {
        var counts = new DeviceCounts();
        foreach (string part in text.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            int colon = part.LastIndexOf(':');
            if (colon > 0 && int.TryParse(part.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int devices))
                counts.Add(part[..colon], devices);
        }

        return counts;
    }
}

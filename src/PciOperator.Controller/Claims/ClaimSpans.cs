using System.Diagnostics;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>Spans of a claim's trace, as far as the controller sees it.</summary>
internal static class ClaimSpans
{
    /// <summary>Begins one; null: nobody listens.</summary>
    public static Activity? StartSpan(this PassthroughClaim claim, string span) =>
        ClaimTrace.Start(span, claim.Metadata.Uid, claim.Metadata.NamespaceProperty, claim.Metadata.Name)?.WithAliases(claim);

    /// <summary>Tells of a step of its way that is over.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="span">The step.</param>
    /// <param name="since">When it began.</param>
    /// <param name="until">When it ended.</param>
    /// <param name="status">Where its devices are.</param>
    public static void Tell(this PassthroughClaim claim, string span, DateTime since, DateTime until, PassthroughClaimStatus? status)
    {
        using Activity? told = ClaimTrace
            .StartPast(
                span,
                claim.Metadata.Uid,
                claim.Metadata.NamespaceProperty,
                claim.Metadata.Name,
                DateTime.SpecifyKind(since, DateTimeKind.Utc),
                until
            )
            ?.WithAliases(claim)
            .SetTag(ClaimTrace.Node, status?.NodeName)
            .SetTag(ClaimTrace.Devices, string.Join(',', (status?.Devices ?? []).Select(d => d.Address)));
    }

    private static Activity WithAliases(this Activity span, PassthroughClaim claim) =>
        span.SetTag(ClaimTrace.Aliases, claim.Spec.RequestsToNova());
}

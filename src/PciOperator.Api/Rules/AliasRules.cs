using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

public sealed partial record AliasDevice : IHasCelRules<AliasDevice>
{
    private const string Id = "^[0-9a-fA-F]{4}$";

    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<AliasDevice>> Rules { get; } =
    [
        new(
            "(has(self.vendorId) && has(self.productId)) || has(self.resourceClass)",
            "give vendorId and productId, or a resourceClass: an alias that names neither would match any device",
            d => (d.VendorId is not null && d.ProductId is not null) || d.ResourceClass is not null
        ),
        FieldRule.Matches<AliasDevice>(
            "vendorId",
            d => d.VendorId,
            Id,
            "an alias' vendorId is exactly four hexadecimal digits such as 10de, without 0x and without *"
        ),
        FieldRule.Matches<AliasDevice>(
            "productId",
            d => d.ProductId,
            Id,
            "an alias' productId is exactly four hexadecimal digits such as 1e04, without 0x and without *"
        ),
        FieldRule.Matches<AliasDevice>("resourceClass", d => d.ResourceClass, ClassRules.ResourceClass, ClassRules.ResourceClassMessage),
        FieldRule.AllMatch<AliasDevice>("traits", d => d.Traits, ClassRules.Trait, ClassRules.TraitMessage),
        .. ReservedTags.RulesOfAlias<AliasDevice>(d => d.Tags),
    ];
}

using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>Aliases, as far as they can be used.</summary>
internal static class AliasUse
{
    /// <summary>The alias for the allocator; null when it can't be used.</summary>
    public static AliasDefinition? Usable(PciAlias alias)
    {
        try
        {
            return alias.ToDefinition();
        }
        catch (SpecFormatException)
        {
            return null;
        }
    }
}

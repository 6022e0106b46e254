namespace PciOperator.Core;

/// <summary>How far a node's agent is with the devices of one claim.</summary>
public enum HoldingState
{
    /// <summary>Being checked and bound, or to be bound again after a restart of the agent or of the host.</summary>
    Preparing,

    /// <summary>Every device is bound and verified.</summary>
    Prepared,

    /// <summary>Refused: nothing is held and everything is as it was; the reason says why.</summary>
    Rejected,

    /// <summary>On its way back to the host; may wait for a process that uses it.</summary>
    Releasing,

    /// <summary>
    /// Neither done nor undone (a write to the kernel has not come back, or the host can't be brought back to what it was): held, named,
    /// not to be offered.
    /// </summary>
    Stuck,
}

"""How every data source did, beside each cycle.

Plain ALTER TABLE on SQLite too: a batch would drop and remake the table that all others refer to.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cycles", sa.Column("health", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("cycles", "health")
